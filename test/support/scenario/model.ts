import { isDeepStrictEqual } from 'node:util';
import type { ResolvedPort, ResolvedService, Snapshot } from '../../../src/model/snapshot.ts';
import { externalAction, internalAction, type Action } from '../../../src/rules/intent.ts';
import { setDifference, type Consumer, type Start } from './consumer.ts';
import { endpointList, endpointText, isNothing } from './expect.ts';
import type { Row } from './parse.ts';
import { walk } from './run.ts';

const start: Start = async () => {
  let snapshot: Snapshot | undefined;
  return {
    update: async (state) => {
      snapshot = state.snapshot;
      if (!isDeepStrictEqual(contents(state.snapshot), contents(state.full)))
        throw new Error('the increment differs from a full resolution');
    },
    check: async (kind, row) => (kind === 'services' && snapshot ? checkRow(snapshot, row) : undefined),
    nothingRemains: async (empty) => (empty.services.size === 0 ? undefined : `${empty.services.size} Services remain`),
    stop: async () => {},
  };
};

/** Ports and members are made when they are read. */
function contents({ services }: Snapshot): unknown {
  const entries = [...services.entries()];
  return Object.fromEntries(entries.map(([key, one]) => [key, { ...one, ports: one.ports, members: one.members }]));
}

/** Holds `services` tables against the resolver, and each increment against a full resolution. */
export const modelConsumer: Consumer = {
  name: 'model',
  reads: ['services', 'packets', 'dns', 'http'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, modelConsumer, start),
};

function checkRow(snapshot: Snapshot, row: Row): string | undefined {
  const name = row.cells['port'] ?? '';
  for (const service of snapshot.services.values()) {
    if (service.key === name) return checkIgnored(service, row);
    const port = service.ports.find((candidate) => portNames(candidate).includes(name));
    if (port) return checkPort(port, row);
  }
  return `there is no ServicePort ${name}`;
}

/** `ns/name:port/PROTO/IPv4`, and without the family for IPv4. */
function portNames(port: ResolvedPort): readonly string[] {
  return port.family === 4 ? [port.key, port.key.replace(/\/IPv4$/, '')] : [port.key];
}

function checkIgnored(service: ResolvedService, row: Row): string | undefined {
  const { carried } = service;
  const actual = carried.kind === 'ignored' ? `ignored ${carried.reason}` : 'carried';
  return actual === row.cells['internal'] ? undefined : `${service.key} is ${actual}`;
}

function checkPort(port: ResolvedPort, row: Row): string | undefined {
  const internal = compareAction('internal', row.cells['internal'], internalAction(port));
  const external = port.externallyReachable
    ? compareAction('external', row.cells['external'], externalAction(port))
    : isNothing(row.cells['external'])
      ? undefined
      : 'external: nothing reaches it from outside';
  return internal ?? external ?? compareLeftOut(port, row.cells['left out']);
}

function compareAction(what: string, cell: string | undefined, action: Action): string | undefined {
  if (cell === undefined) return undefined;
  const actual = action.kind === 'forward' ? action.endpoints.map(endpointText) : [action.kind.toUpperCase()];
  const difference = setDifference(isNothing(cell) ? [] : endpointList(cell), actual);
  return difference && `${what}: ${difference}`;
}

function compareLeftOut(port: ResolvedPort, cell: string | undefined): string | undefined {
  if (cell === undefined) return undefined;
  const sets = [port.cluster, port.local].flatMap((set) => (set.kind === 'used' ? set.leftOut : []));
  const actual = new Set(sets.map(({ endpoint, reason }) => `${endpointText(endpoint)} ${reason}`));
  const expected = isNothing(cell) ? [] : cell.split(/\s*,\s*/);
  const difference = setDifference(expected, [...actual]);
  return difference && `left out: ${difference}`;
}
