import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ingress, service, snapshot, tlsSecret } from '../../test/ingress/world.ts';
import { compileRoutes, type RouteTable } from './route-table.ts';
import { DEFAULT_SELECTION } from './class-selection.ts';
import { changesBetween, emptySource, snapshotOf, sourceOf, withChanges } from './worker-source.ts';

const SELECTION = { ...DEFAULT_SELECTION, watchIngressWithoutClass: true };
const NAMES = ['a', 'b', 'c', 'd'];

/** What a table routes, without what only identifies objects. */
function routesOf(table: RouteTable): unknown {
  return [...table.hosts.keys()]
    .sort()
    .map((host) => [
      host,
      [...(table.hosts.get(host)?.prefix.values() ?? [])].map(({ path, backend }) => [
        path,
        table.backends.get(backend.key)?.target,
      ]),
    ]);
}

const world = fc.record({
  ingresses: fc.uniqueArray(fc.record({ name: fc.constantFrom(...NAMES), service: fc.constantFrom(...NAMES) }), {
    selector: ({ name }) => name,
  }),
  services: fc.uniqueArray(fc.record({ name: fc.constantFrom(...NAMES), port: fc.integer({ min: 1, max: 3 }) }), {
    selector: ({ name }) => name,
  }),
});

test('a worker that is told of each change routes as the main thread does, with copies of the objects', () => {
  fc.assert(
    fc.property(fc.array(world, { minLength: 1, maxLength: 6 }), (worlds) => {
      let main: RouteTable | undefined;
      let told = emptySource();
      let worker = emptySource();
      let theirs: RouteTable | undefined;
      for (const { ingresses, services } of worlds) {
        const next = snapshot(
          {
            ingresses: ingresses.map((spec) =>
              ingress({
                name: spec.name,
                rules: [{ host: `${spec.name}.example`, paths: [{ service: spec.service }] }],
              }),
            ),
            services: services.map((spec) => service({ name: spec.name, endpoints: [`10.0.0.${spec.port}:80`] })),
            secrets: [tlsSecret('s', 'cert', 'key')],
          },
          main?.snapshot,
        );
        const table = compileRoutes(next, SELECTION, main);
        const after = sourceOf(table, main, told);
        worker = withChanges(worker, structuredClone(changesBetween(told, after)));
        main = table;
        told = after;
        theirs = compileRoutes(snapshotOf(worker), SELECTION, theirs);
        expect(routesOf(theirs)).toEqual(routesOf(main));
        // Only Services that a backend names are sent.
        const named = new Set(ingresses.map((spec) => `default/${spec.service}`));
        expect([...worker.services.keys()].every((key) => named.has(key))).toBe(true);
      }
    }),
    { numRuns: 100 },
  );
});
