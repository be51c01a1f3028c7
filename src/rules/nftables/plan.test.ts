import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, NODE, clusterOf } from '../../../test/rules/cluster.ts';
import type { Resolution } from '../../model/resolve.ts';
import { reorder } from './contribution.ts';
import { Planner } from './plan.ts';
import { ip } from '../../../test/support/values.ts';

function elementsOf(planner: Planner): Map<string, string> {
  return new Map([...planner.groups()].flatMap(({ elements }) => [...elements]));
}

/** Endpoints without their number: which of them has which is free. */
function unnumbered(elements: ReadonlyMap<string, string>): readonly string[] {
  return [...elements]
    .map(([id, value]) =>
      /\/[a-z-]*(?<!sticky-)endpoints\//.test(id) ? `${id.slice(0, id.lastIndexOf(' . '))} ${value}` : `${id} ${value}`,
    )
    .sort();
}

test('changes upon changes come to the same as a plan from nothing', () => {
  fc.assert(
    fc.property(fc.array(clusters, { minLength: 1, maxLength: 4 }), (states) => {
      const planner = new Planner(CONFIG);
      const held = new Map<string, string>();
      let resolution: Resolution | undefined;
      for (const state of states) {
        resolution = clusterOf(state, resolution);
        for (const { id, before, after } of planner.advance(resolution.snapshot)) {
          expect(held.get(id)).toBe(before);
          if (after === undefined) held.delete(id);
          else held.set(id, after);
        }
        expect(held).toEqual(elementsOf(planner));
        const fresh = new Planner(CONFIG);
        fresh.advance(resolution.snapshot);
        expect(unnumbered(held)).toEqual(unnumbered(elementsOf(fresh)));
      }
    }),
    { numRuns: 300 },
  );
});

test('the changes from what a table holds, applied to it, give the plan', () => {
  fc.assert(
    fc.property(clusters, clusters, (before, after) => {
      const old = new Planner(CONFIG);
      old.advance(clusterOf(before).snapshot);
      const held = elementsOf(old);
      const planner = new Planner(CONFIG);
      planner.advance(clusterOf(after).snapshot);
      for (const { changes } of planner.changesFrom(new Map(held))) {
        for (const { id, before: was, after: is } of changes) {
          expect(held.get(id)).toBe(was);
          if (is === undefined) held.delete(id);
          else held.set(id, is);
        }
      }
      expect(held).toEqual(elementsOf(planner));
    }),
  );
});

test('one endpoint more is one element and one number, one less the same', () => {
  const endpoints = Array.from({ length: 10 }, (_, i) => `10.0.1.${i}:80@node-b`);
  const service = { name: 'a', clusterIPs: ['172.30.0.1'], endpoints };
  const planner = new Planner(CONFIG);
  let resolution = clusterOf([service]);
  planner.advance(resolution.snapshot);
  resolution = clusterOf([{ ...service, endpoints: [...endpoints, '10.0.0.0:80@node-b'] }], resolution);
  expect(planner.advance(resolution.snapshot)).toEqual([
    { id: '4/services/172.30.0.1 . tcp . 80', before: '10', after: '11' },
    { id: '4/endpoints/172.30.0.1 . tcp . 80 . 10', before: undefined, after: '10.0.0.0 . 80' },
  ]);
  resolution = clusterOf([{ ...service, endpoints: [...endpoints.slice(1), '10.0.0.0:80@node-b'] }], resolution);
  expect(planner.advance(resolution.snapshot)).toEqual([
    { id: '4/endpoints/172.30.0.1 . tcp . 80 . 0', before: '10.0.1.0 . 80', after: '10.0.0.0 . 80' },
    { id: '4/endpoints/172.30.0.1 . tcp . 80 . 10', before: '10.0.0.0 . 80', after: undefined },
    { id: '4/services/172.30.0.1 . tcp . 80', before: '11', after: '10' },
  ]);
});

test('a reordering keeps the endpoints and moves no more than the holes ask for', () => {
  const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'));
  fc.assert(
    fc.property(names, names, (before, wanted) => {
      const after = reorder(before, wanted);
      expect([...after].sort()).toEqual([...wanted].sort());
      const stays = before.filter((each, index) => wanted.includes(each) && index < wanted.length);
      for (const each of stays) expect(after.indexOf(each)).toBe(before.indexOf(each));
    }),
  );
});

test('of two Services that claim an address the first by name has it, and the other takes over', () => {
  const shared = { externalIPs: ['198.51.100.1'] };
  const a = { name: 'a', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'], ...shared };
  const b = { name: 'b', clusterIPs: ['172.30.0.2'], endpoints: ['10.0.0.2:80'], ...shared };
  const planner = new Planner(CONFIG);
  let resolution = clusterOf([a, b]);
  planner.advance(resolution.snapshot);
  const holder = (): string | undefined => elementsOf(planner).get('4/endpoints/198.51.100.1 . tcp . 80 . 0');
  expect(holder()).toBe('10.0.0.1 . 80');
  resolution = clusterOf([b], resolution);
  planner.advance(resolution.snapshot);
  expect(holder()).toBe('10.0.0.2 . 80');
});

test('a node that gets another address answers NodePorts there', () => {
  const service = { name: 'a', clusterIPs: ['172.30.0.1'], nodePort: 30080, endpoints: ['10.0.0.1:80'] };
  const planner = new Planner(CONFIG);
  const resolution = clusterOf([service]);
  planner.advance(resolution.snapshot);
  const moved = clusterOf([service], undefined, { ...NODE, ips: [ip('192.168.0.9')] });
  expect(planner.advance({ ...moved.snapshot, services: resolution.snapshot.services })).toEqual([
    { id: '4/nodeport-ips/192.168.0.2', before: '', after: undefined },
    { id: '6/nodeport-ips/fd00:192:168::2', before: '', after: undefined },
    { id: '4/nodeport-ips/192.168.0.9', before: undefined, after: '' },
  ]);
});
