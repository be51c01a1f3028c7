import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createTally } from '../observe/tally.ts';
import type { Location } from './host-routes.ts';
import type { RequestRecord } from './http/forward.ts';
import { compileRoutes } from './route-table.ts';
import { locationsOf } from './host-routes.ts';
import { DEFAULT_SELECTION } from './class-selection.ts';
import { ingress, service, snapshot } from '../../test/ingress/world.ts';
import { TrafficCounts, type ToldBy } from './traffic-counts.ts';

const TABLE = compileRoutes(
  snapshot({
    ingresses: ['a', 'b'].map((name) =>
      ingress({ name, rules: [{ host: `${name}.example`, paths: [{ service: 'echo' }] }] }),
    ),
    services: [service({ name: 'echo', endpoints: ['10.0.0.1:80'] })],
  }),
  { ...DEFAULT_SELECTION, watchIngressWithoutClass: true },
);
const LOCATIONS: readonly Location[] = [...TABLE.hosts.values()].flatMap((routes) => [...locationsOf(routes)]);

function record(location: Location | undefined, status: number, duration: number, sent: number): RequestRecord {
  return {
    method: 'GET',
    host: location?.host ?? 'none.example',
    path: '/',
    status,
    location,
    endpoint: undefined,
    remoteAddress: '192.0.2.1',
    requestId: '',
    received: 0,
    sent,
    duration,
    headDuration: duration / 2,
  };
}

async function shown(counts: TrafficCounts): Promise<readonly string[]> {
  const tally = createTally();
  counts.register(tally);
  const families = await tally.families();
  return families
    .flatMap(({ samples }) => samples)
    .map(({ name, labels, value }) => `${name}${JSON.stringify(labels)} ${value}`)
    .sort();
}

test('what threads hand over now and then adds up to what one would have counted, and stays when one of them is gone', async () => {
  const request = fc.record({
    kind: fc.constant('request' as const),
    thread: fc.nat(1),
    location: fc.option(fc.nat(LOCATIONS.length - 1), { nil: undefined }),
    status: fc.constantFrom(200, 404),
    // Whole numbers: sums are the same in any order.
    milliseconds: fc.nat(20).map((n) => n * 1000),
    sent: fc.nat(200),
  });
  const event = fc.oneof(
    request,
    fc.record({ kind: fc.constant('tells' as const), thread: fc.nat(1) }),
    fc.record({ kind: fc.constant('replaced' as const), thread: fc.nat(1) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 30 }), async (events) => {
      const [alone, main] = [new TrafficCounts(), new TrafficCounts()];
      const threads = [0, 1].map(() => ({ counts: new TrafficCounts(), told: [] as ToldBy }));
      const tell = (index: number): void => {
        const thread = threads[index];
        if (thread) main.add(structuredClone(thread.counts.take()), thread.told);
      };
      for (const each of events) {
        if (each.kind === 'request') {
          const location = each.location === undefined ? undefined : LOCATIONS[each.location];
          const made = record(location, each.status, each.milliseconds, each.sent);
          alone.record(made);
          threads[each.thread]?.counts.record(made);
        } else {
          tell(each.thread);
          if (each.kind === 'replaced') threads[each.thread] = { counts: new TrafficCounts(), told: [] };
        }
      }
      for (const index of threads.keys()) tell(index);
      expect(await shown(main)).toEqual(await shown(alone));
    }),
  );
});

test('what nobody asked for since the last time is not told of again', () => {
  const counts = new TrafficCounts();
  for (const location of LOCATIONS) counts.record(record(location, 200, 1, 1));
  expect(counts.take()).toMatchObject({ ids: new Uint32Array([0, 1]), fresh: [{}, {}] });
  expect(counts.take()).toMatchObject({ ids: new Uint32Array([]), fresh: [], numbers: new Float64Array([]) });
  counts.record(record(LOCATIONS[1], 200, 1, 1));
  expect(counts.take()).toMatchObject({ ids: new Uint32Array([1]), fresh: [] });
});
