import type { Ip } from '../../../src/lib/ip.ts';
import { resolveName } from '../../../src/dns/text.ts';
import { parseName } from '../../../src/dns/wire/name.ts';
import { compileZone, emptyZone } from '../../../src/dns/zone/compile.ts';
import type { Zone, ZoneOptions } from '../../../src/dns/zone/zone.ts';
import type { Snapshot } from '../../../src/model/snapshot.ts';
import { setDifference, type Consumer, type Start } from './consumer.ts';
import { isNothing } from './expect.ts';
import type { Row } from './parse.ts';
import { walk } from './run.ts';

const SELF_IPS: readonly Ip[] = [];

function zoneOptions(): ZoneOptions {
  const origin = parseName('cluster.local.');
  if (!origin) throw new Error('cluster.local does not parse');
  return { origin, ttl: 5, pods: 'insecure', selfIps: SELF_IPS };
}

const start: Start = async () => {
  const options = zoneOptions();
  let zone: Zone = emptyZone(options, 0);
  const asked: string[] = [];
  const update = async ({ snapshot }: { snapshot: Snapshot }): Promise<void> => {
    zone = compileZone(snapshot, options, snapshot.revision, zone);
  };
  return {
    update,
    check: async (_kind, row) => {
      if (row.cells['rcode'] === 'NOERROR') asked.push(row.cells['name'] ?? '');
      return checkRow(zone, row);
    },
    nothingRemains: async () => {
      const left = asked.filter((name) => (resolveName(zone, name, 'A')?.answers.length ?? 0) > 0);
      return left.length === 0 ? undefined : `these still have an answer: ${left.join(', ')}`;
    },
    stop: async () => {},
  };
};

/** Holds `dns` tables against the compiled zone, through the codec. Names are case-insensitive, order does not matter. */
export const dnsConsumer: Consumer = {
  name: 'dns',
  reads: ['dns'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, dnsConsumer, start),
};

function checkRow(zone: Zone, row: Row): string | undefined {
  const { name = '', type = 'A' } = row.cells;
  const answer = resolveName(zone, name, type);
  if (!answer) return `"${name}" or "${type}" cannot be asked for`;
  const { rcode } = row.cells;
  if (rcode !== undefined && rcode !== answer.rcode) return `${name} ${type}: expected ${rcode}, got ${answer.rcode}`;
  const cell = row.cells['answer'];
  if (cell === undefined) return undefined;
  const expected = isNothing(cell) ? [] : cell.split(/\s*,\s*/);
  const actual = answer.answers.map((record) => record.split(' ').slice(4).join(' '));
  const difference = setDifference(expected, actual);
  return difference && `${name} ${type}: ${difference}`;
}
