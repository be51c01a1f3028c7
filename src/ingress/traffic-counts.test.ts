import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createTally } from '../observe/tally.ts';
import type { Location } from './host-routes.ts';
import type { RequestRecord } from './http/forward.ts';
import { compileRoutes, type RouteTable } from './route-table.ts';
import { locationsOf } from './host-routes.ts';
import { DEFAULT_SELECTION } from './class-selection.ts';
import { ingress, service, snapshot } from '../../test/ingress/world.ts';
import { TrafficCounts, type ToldBy } from './traffic-counts.ts';

const recompiled = (): RouteTable =>
  compileRoutes(
    snapshot({
      ingresses: ['a', 'b'].map((name) =>
        ingress({ name, rules: [{ host: `${name}.example`, paths: [{ service: 'echo' }] }] }),
      ),
      services: [service({ name: 'echo', endpoints: ['10.0.0.1:80'] })],
    }),
    { ...DEFAULT_SELECTION, watchIngressWithoutClass: true },
  );
/** Of `a`, then of `b`. */
const locationsNow = (): readonly Location[] =>
  [...recompiled().hosts.values()]
    .flatMap((routes) => [...locationsOf(routes)])
    .sort((a, b) => (a.host < b.host ? -1 : 1));
const LOCATIONS = locationsNow();

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
      const threads = [0, 1].map(() => ({ counts: new TrafficCounts(), told: new Map() as ToldBy }));
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
          const { told } = threads[each.thread] ?? {};
          if (each.kind === 'replaced' && told) main.release(told);
          if (each.kind === 'replaced') threads[each.thread] = { counts: new TrafficCounts(), told: new Map() };
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

test('nothing is shown of an Ingress that is no more, once every thread has told so, and it counts from nothing when it comes again', async () => {
  const main = new TrafficCounts();
  const threads = [0, 1].map(() => ({ counts: new TrafficCounts(), told: new Map() as ToldBy }));
  const of = async (name: string): Promise<readonly string[]> =>
    (await shown(main)).filter((line) => line.includes('requests{') && line.includes(`"ingress":"${name}"`));
  const all = (act: (counts: TrafficCounts) => void): void => {
    for (const { counts, told } of threads) {
      act(counts);
      main.add(structuredClone(counts.take()), told);
    }
  };
  const count = (counts: TrafficCounts): void => {
    for (const location of LOCATIONS) counts.record(record(location, 200, 1, 1));
  };
  all(count);
  expect([await of('a'), await of('b')]).toEqual([
    [expect.stringMatching(/ 2$/) as unknown],
    [expect.stringMatching(/ 2$/) as unknown],
  ]);
  all((counts) => {
    count(counts);
    counts.forget(new Set(['default/a']));
    // A request that was under way.
    count(counts);
  });
  expect([await of('a'), await of('b')]).toEqual([[], [expect.stringMatching(/ 6$/) as unknown]]);
  for (const { told } of threads) expect(told.size).toBe(1);
  const [again] = locationsNow();
  all((counts) => counts.record(record(again, 200, 1, 1)));
  expect(await of('a')).toEqual([expect.stringMatching(/ 2$/) as unknown]);
});

test('what a thread that is gone had counted goes with its Ingress, too', async () => {
  const main = new TrafficCounts();
  const [old, young] = [new TrafficCounts(), new TrafficCounts()];
  const told: ToldBy = new Map();
  old.record(record(LOCATIONS[0], 200, 1, 1));
  main.add(old.take(), told);
  main.release(told);
  expect(await shown(main)).not.toEqual([]);
  young.record(record(LOCATIONS[0], 200, 1, 1));
  const toldByYoung: ToldBy = new Map();
  main.add(young.take(), toldByYoung);
  young.forget(new Set(['default/a']));
  main.add(young.take(), toldByYoung);
  expect(await shown(main)).toEqual([]);
});
