import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { FakeClock } from '../../system/clock-fake.ts';
import type { Tcp, TcpSocket } from '../../system/tcp.ts';
import { endpointKey } from './balance.ts';
import { Dials, type DialRoute, type DialResult } from './dial.ts';
import { endpoint, ip } from '../../../test/support/values.ts';

const CLIENT = ip('10.0.0.9');
const TIMEOUT_MS = 5_000;

class FakeSocket extends PassThrough {
  readonly bytesRead = 0;
  readonly bytesWritten = 0;
  wasReset = false;
  resetAndDestroy(): void {
    this.wasReset = true;
    this.destroy();
  }
}

interface Tried {
  readonly name: string;
  readonly at: number;
  /** The endpoint accepts. */
  accept(): FakeSocket;
  refuse(): void;
  /** Undefined as long as it is not given up. */
  readonly givenUp: string | undefined;
}

/** Endpoints by name, asked in that order, that do as they are told. */
function world(names: readonly string[], affinity = false) {
  const clock = new FakeClock();
  const endpoints = new Map(names.map((name, i) => [name, endpoint(`10.0.0.${i + 1}:80`)]));
  const nameOf = (key: string): string =>
    [...endpoints].find(([, each]) => endpointKey(each) === key)?.[0] ?? 'unknown';
  const tried: Tried[] = [];
  const failures: string[] = [];
  const kept: string[] = [];
  const tcp: Tcp = {
    listen: () => Promise.resolve({ kind: 'failed', code: 'EACCES' }),
    connect: ({ address, port, signal }) =>
      new Promise((resolve) => {
        const abort = (): void => resolve({ kind: 'failed', code: 'ABORTED' });
        signal.addEventListener('abort', abort, { once: true });
        tried.push({
          name: nameOf(`${address}:${port}`),
          at: clock.monotonic(),
          get givenUp() {
            return signal.aborted ? String(signal.reason) : undefined;
          },
          accept: () => {
            const socket = new FakeSocket();
            resolve({ kind: 'connected', socket: socket satisfies TcpSocket });
            return socket;
          },
          refuse: () => resolve({ kind: 'failed', code: 'ECONNREFUSED' }),
        });
      }),
  };
  let allowed: readonly string[] = names;
  const route: DialRoute = {
    hasAffinity: affinity,
    choose: (_client, before) => {
      const next = [...endpoints].find(([name, each]) => allowed.includes(name) && !before.has(endpointKey(each)));
      return next ? { kind: 'endpoint', endpoint: next[1] } : { kind: 'reject' };
    },
    allowed: () => new Set([...endpoints].filter(([name]) => allowed.includes(name)).map(([, e]) => endpointKey(e))),
    reached: (_client, each) => void kept.push(nameOf(endpointKey(each))),
    failed: () => {},
  };
  const onFailure = (key: string, code: string): void => void failures.push(`${nameOf(key)} ${code}`);
  const dials = new Dials({ tcp, clock, connectTimeoutMs: TIMEOUT_MS, onFailure });
  const results: string[] = [];
  const begin = () =>
    dials.begin({
      client: CLIENT,
      route,
      onBytes: () => {},
      onEnd: (result: DialResult) =>
        results.push(result.kind === 'reached' ? `reached ${nameOf(result.endpoint)}` : result.kind),
      onFault: (error) => {
        throw error;
      },
    });
  const at = (): readonly string[] => tried.map((each) => `${each.name} ${each.at}`);
  const by = (name: string): Tried => {
    const found = tried.find((each) => each.name === name);
    if (!found) throw new Error(`${name} was not tried`);
    return found;
  };
  const allow = (left: readonly string[]): void => {
    allowed = left;
    dials.recheck(route);
  };
  return { clock, dials, begin, results, failures, kept, at, by, allow };
}

test('beside an endpoint that is silent another is tried after a quarter of a second, further ones after twice as long each', async () => {
  const { clock, begin, at, by, results, failures } = world(['a', 'b', 'c', 'd', 'e', 'f']);
  begin();
  await clock.advance(4_000);
  expect(at()).toEqual(['a 0', 'b 250', 'c 750', 'd 1750', 'e 3750']);
  by('e').accept();
  await clock.advance(0);
  expect(results).toEqual(['reached e']);
  // They had longer than the one that was faster.
  expect(failures.sort()).toEqual(['a ETIMEDOUT', 'b ETIMEDOUT', 'c ETIMEDOUT', 'd ETIMEDOUT']);
  await clock.advance(60_000);
  expect(at()).toHaveLength(5);
});

test('an endpoint that is slow is waited for beside the others, and they are let go when it accepts', async () => {
  const { clock, begin, at, by, results, failures, kept } = world(['slow', 'slower']);
  begin();
  await clock.advance(3_000);
  expect(at()).toEqual(['slow 0', 'slower 250']);
  by('slow').accept();
  await clock.advance(0);
  expect(results).toEqual(['reached slow']);
  expect(by('slower').givenUp).toBe('MOVED');
  expect(failures).toEqual([]);
  // It was given the other one meanwhile.
  expect(kept).toEqual(['slow']);
});

test('the only endpoint has its whole time, and then the client is refused', async () => {
  const { clock, begin, by, results, failures } = world(['only']);
  begin();
  await clock.advance(TIMEOUT_MS - 1);
  expect([results, by('only').givenUp]).toEqual([[], undefined]);
  await clock.advance(1);
  expect([results, failures]).toEqual([['reject'], ['only ETIMEDOUT']]);
  const slow = world(['only']);
  slow.begin();
  await slow.clock.advance(TIMEOUT_MS - 1);
  slow.by('only').accept();
  await slow.clock.advance(0);
  expect([slow.results, slow.failures, slow.kept]).toEqual([['reached only'], [], []]);
});

test('each endpoint is tried once and has its whole time, also where all are silent', async () => {
  const { clock, begin, at, results, failures } = world(['a', 'b', 'c']);
  begin();
  await clock.advance(5_749);
  expect([at(), results]).toEqual([['a 0', 'b 250', 'c 750'], []]);
  await clock.advance(1);
  expect([results, failures]).toEqual([['reject'], ['a ETIMEDOUT', 'b ETIMEDOUT', 'c ETIMEDOUT']]);
});

test('behind an endpoint that refuses the next is tried at once', async () => {
  const { clock, begin, at, by, results, failures } = world(['a', 'b']);
  begin();
  await clock.advance(10);
  by('a').refuse();
  await clock.advance(0);
  expect(at()).toEqual(['a 0', 'b 10']);
  by('b').accept();
  await clock.advance(0);
  expect([results, failures]).toEqual([['reached b'], ['a ECONNREFUSED']]);
});

test('two that accept in the same turn: one is taken, the other reset', async () => {
  const { clock, begin, by, results } = world(['a', 'b']);
  begin();
  await clock.advance(250);
  const [first, second] = [by('a').accept(), by('b').accept()];
  await clock.advance(0);
  expect(results).toEqual(['reached a']);
  expect([first.wasReset, second.wasReset]).toEqual([false, true]);
});

test('with session affinity the client’s own endpoint has time for a second SYN', async () => {
  const { clock, begin, at } = world(['mine', 'other'], true);
  begin();
  await clock.advance(1_499);
  expect(at()).toEqual(['mine 0']);
  await clock.advance(1);
  expect(at()).toEqual(['mine 0', 'other 1500']);
});

test('an endpoint that is no longer allowed gives way to another at once, and is no failure', async () => {
  const { clock, begin, at, allow, failures, by } = world(['a', 'b']);
  begin();
  await clock.advance(100);
  allow(['b']);
  await clock.advance(0);
  expect([at(), failures, by('a').givenUp]).toEqual([['a 0', 'b 100'], [], 'MOVED']);
});

test('when the client is gone nothing is tried any more', async () => {
  const { clock, begin, at, results, failures, by } = world(['a', 'b', 'c']);
  const dial = begin();
  await clock.advance(300);
  dial.giveUp();
  await clock.advance(60_000);
  expect([at(), failures, results]).toEqual([['a 0', 'b 250'], [], ['reject']]);
  expect([by('a').givenUp, by('b').givenUp]).toEqual(['MOVED', 'MOVED']);
});

test('the attempts beside others are bounded for all clients together; who has to wait goes on later', async () => {
  const { clock, begin, at, dials, by } = world(['silent', 'live']);
  for (let i = 0; i < 100; i++) begin();
  await clock.advance(250);
  expect(at().filter((each) => each === 'live 250')).toHaveLength(64);
  expect(dials.beside).toBe(64);
  by('live').accept();
  await clock.advance(500);
  expect(at().filter((each) => each === 'live 750')).toHaveLength(1);
  await clock.advance(TIMEOUT_MS);
  expect(at().filter((each) => each.startsWith('live'))).toHaveLength(100);
});
