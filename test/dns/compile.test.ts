// A Zone that was brought up to date answers as one that was made from nothing.

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Snapshot } from '../../src/model/snapshot.ts';
import { reverseName } from '../../src/dns/zone/reverse.ts';
import { nameText, parseName, type DnsName } from '../../src/dns/wire/name.ts';
import { resolveName } from '../../src/dns/text.ts';
import { compileZone } from '../../src/dns/zone/compile.ts';
import { answersOf, type ServiceAnswers, type Zone, type ZoneOptions } from '../../src/dns/zone/zone.ts';
import { changesBetween, emptySource, withChanges } from '../../src/dns/zone/source.ts';
import { buildService, buildSnapshot, type ServiceFacts } from './snapshot-builder.ts';
import { ip } from '../support/values.ts';

const OPTIONS: ZoneOptions = {
  origin: parseName('cluster.local') as DnsName,
  ttl: 5,
  pods: 'verified',
  selfIps: [ip('10.0.0.1')],
};

const address = fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3', 'fd00::1', 'fd00::2');
const namespace = fc.constantFrom('a', 'b', 'c');
const service = fc.constantFrom('web', 'db', 'ext');
const ports = fc.subarray([
  { name: 'http', port: 80 },
  { name: 'dns', protocol: 'UDP' as const, port: 53 },
  { name: '', port: 99 },
]);
const endpoint = fc.record(
  { ip: address, ready: fc.boolean(), hostname: fc.constantFrom('x', 'Y', 'web') },
  { requiredKeys: ['ip'] },
);
const slice = fc.record({ ports, endpoints: fc.array(endpoint, { maxLength: 4 }) });
const facts: fc.Arbitrary<ServiceFacts> = fc
  .record({ namespace, name: service, slices: fc.array(slice, { maxLength: 2 }), ports })
  .chain((base) =>
    fc.oneof(
      fc.uniqueArray(address, { maxLength: 2 }).map((clusterIPs) => ({ ...base, clusterIPs })),
      fc
        .constantFrom('www.example.test', 'db.a.svc.cluster.local', '10.0.0.9')
        .map((externalName) => ({ ...base, externalName })),
    ),
  );
const pod = fc.record({ namespace, name: fc.constantFrom('p', 'q'), ip: address });

type Step = {
  readonly set: readonly ServiceFacts[];
  readonly remove: readonly string[];
  readonly pods: readonly { namespace: string; name: string; ip: string }[];
};
const step: fc.Arbitrary<Step> = fc.record({
  set: fc.array(facts, { maxLength: 4 }),
  remove: fc.array(
    fc.tuple(namespace, service).map((parts) => parts.join('/')),
    { maxLength: 2 },
  ),
  pods: fc.uniqueArray(pod, { maxLength: 3, selector: (one) => `${one.namespace}/${one.name}` }),
});

function after(before: Snapshot, change: Step): Snapshot {
  const set = change.set.map((one) => buildService(one));
  return {
    ...before,
    revision: before.revision + 1,
    services: before.services
      .with(change.remove.map((key) => [key, undefined] as const))
      .with(set.map((one) => [one.key, one] as const)),
    pods: buildSnapshot({ pods: change.pods }).pods,
  };
}

/** Parts of it are made when they are read. */
function everything(answers: ServiceAnswers | undefined): unknown {
  if (answers?.kind !== 'addresses') return answers;
  const { headless, apex, endpoints, ports, protocols, reverse, zones } = answers;
  return { headless, apex, endpoints, ports, protocols, reverse, zones };
}

/** Everything that a Zone holds, in an order that does not depend on how it came about. */
function contents(zone: Zone): unknown {
  const sorted = <V>(map: { entries(): Iterable<readonly [string, V]> }) =>
    [...map.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    services: [...zone.services.keys()].sort().map((key) => [key, everything(answersOf(zone, key))]),
    servicesIn: sorted(zone.servicesIn),
    reverse: sorted(zone.reverse),
    pods: sorted(zone.pods),
    nameCount: zone.nameCount,
    revision: zone.revision,
  };
}

test('after any changes, only what changed being compiled again gives the same Zone', { timeout: 60_000 }, () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), (steps) => {
      let snapshot = buildSnapshot({ namespaces: ['a'] });
      let zone = compileZone(snapshot, OPTIONS, 1);
      for (const change of steps) {
        snapshot = after(snapshot, change);
        zone = compileZone(snapshot, OPTIONS, 1, zone);
        expect(contents(zone)).toEqual(contents(compileZone(snapshot, OPTIONS, 1)));
      }
    }),
    { numRuns: 100 },
  );
});

test('a worker thread that is told of every change has the same Zone', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 4 }), (steps) => {
      let snapshot = buildSnapshot({ namespaces: ['a'] });
      let source = emptySource();
      let before: Snapshot | undefined;
      for (const change of steps) {
        snapshot = after(snapshot, change);
        for (const message of changesBetween(before, snapshot, true))
          source = withChanges(source, structuredClone(message));
        before = snapshot;
        expect(contents(compileZone(source, OPTIONS, 1))).toEqual(contents(compileZone(snapshot, OPTIONS, 1)));
      }
    }),
    { numRuns: 50 },
  );
});

test('what was compiled for many Services is let go again, and compiled anew when it is asked for', () => {
  const services = Array.from({ length: 25_000 }, (_, i) => ({
    namespace: 'a',
    name: `s${i}`,
    clusterIPs: [`10.0.${i >> 8}.${i & 255}`],
  }));
  const zone = compileZone(buildSnapshot({ services }), OPTIONS, 1);
  const first = answersOf(zone, 'a/s0');
  expect(answersOf(zone, 'a/s0')).toBe(first);
  for (const { name } of services) answersOf(zone, `a/${name}`);
  expect(answersOf(zone, 'a/s0')).not.toBe(first);
  expect(everything(answersOf(zone, 'a/s0'))).toEqual(everything(first));
});

test('many Services on one address are compiled at once and brought up to date', { timeout: 20_000 }, () => {
  const facts = (i: number, at: string): ServiceFacts => ({
    namespace: 'a',
    name: `s${i}`,
    clusterIPs: [`10.${128 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`],
    slices: [{ endpoints: [{ ip: at }] }],
  });
  // Together they take less than a second: half a minute where each of them is put in its place among the others.
  const all = Array.from({ length: 30_000 }, (_, i) => facts(i, '10.0.0.1'));
  const snapshot = buildSnapshot({ services: all });
  const zone = compileZone(snapshot, OPTIONS, 1);
  expect(zone.reverse.get('10.0.0.1')).toEqual(all.map(({ name }) => `a/${name}`).sort());
  const moved = Array.from({ length: 15_000 }, (_, i) => facts(2 * i, '10.0.0.2'));
  const next = compileZone(after(snapshot, { set: moved, remove: ['a/s1'], pods: [] }), OPTIONS, 1, zone);
  expect(next.reverse.get('10.0.0.2')).toEqual(moved.map(({ name }) => `a/${name}`).sort());
  expect(next.reverse.get('10.0.0.1')).toHaveLength(14_999);
});

test('every target of a PTR record resolves to its address', () => {
  fc.assert(
    fc.property(fc.array(facts, { maxLength: 8 }), (services) => {
      const zone = compileZone(buildSnapshot({ services }), OPTIONS, 1);
      for (const [text] of zone.reverse.entries()) {
        const name = nameText(reverseName(ip(text)));
        const records = resolveName(zone, name, 'PTR')?.answers ?? [];
        expect(records).not.toEqual([]);
        for (const record of records) {
          const target = record.split(' ').at(-1) ?? '';
          const found = resolveName(zone, target, text.includes(':') ? 'AAAA' : 'A');
          expect(found?.answers.map((one) => one.split(' ').at(-1))).toContain(text);
        }
      }
    }),
  );
});

test('a Service that did not change keeps the very answers that it had', () => {
  const first = buildSnapshot({ services: [{ namespace: 'a', name: 'web', clusterIPs: ['10.0.0.1'] }] });
  const before = compileZone(first, OPTIONS, 1);
  const next = after(first, { set: [{ namespace: 'a', name: 'db', clusterIPs: ['10.0.0.2'] }], remove: [], pods: [] });
  const answers = answersOf(before, 'a/web');
  const zone = compileZone(next, OPTIONS, 2, before);
  expect(answersOf(zone, 'a/web')).toBe(answers);
  expect(zone.serial).toBe(2);
  expect(compileZone({ ...next, revision: 9 }, OPTIONS, 3, zone).serial).toBe(2);
});
