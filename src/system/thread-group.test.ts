import { expect, test } from 'vitest';
import { FakeClock } from './clock-fake.ts';
import { ThreadGroup } from './thread-group.ts';
import type { ThreadOptions } from './worker-thread.ts';

type To = { readonly kind: 'names' } | { readonly kind: 'ask'; readonly id: number } | { readonly kind: 'stop' };
type From = { readonly kind: 'noted' } | { readonly kind: 'said'; readonly id: number; readonly text: string };

interface Thread {
  readonly told: To[];
  say(message: From): void;
  end(why?: string): void;
}

function world() {
  const clock = new FakeClock();
  const threads: Thread[] = [];
  const log: string[] = [];
  const group = new ThreadGroup<To, From, { noted: number }>({
    module: new URL('file:///none.ts'),
    youngMb: 8,
    dataOf: (index) => ({ index }),
    known: () => ({ noted: 0 }),
    first: () => [{ kind: 'names' }],
    follow: async (member) => {
      const reply = await member.ask((id) => ({ kind: 'ask', id }));
      log.push(`${member.index} follows: ${reply.kind === 'gone' ? reply.why : reply.text}`);
    },
    onMessage: (member, message) => {
      if (message.kind === 'noted') member.known.noted++;
    },
    onEnd: (member, why, ms) => log.push(`${member.index} ended: ${why}; ${ms ?? 'for good'}`),
    clock,
    random: () => 0,
    startThread: ({ onMessage, onEnd }: ThreadOptions) => {
      const told: To[] = [];
      let ended = false;
      const end = (why?: string): void => {
        if (!ended) onEnd(why);
        ended = true;
      };
      threads.push({ told, say: onMessage, end });
      return { post: (message) => void told.push(message as To), terminate: () => Promise.resolve(end()) };
    },
  });
  const thread = (n: number): Thread => {
    const found = threads[n];
    if (!found) throw new Error(`thread ${n} was not started`);
    return found;
  };
  return { clock, group, threads, thread, log };
}

test('each is told first what it has to know, then asked; its answer finds the one who asked', async () => {
  const { group, threads, thread } = world();
  const [a, b] = [group.at(0), group.at(1)];
  expect(group.at(0)).toBe(a);
  expect(threads).toHaveLength(2);
  const replies = [a.ask((id) => ({ kind: 'ask', id })), b.ask((id) => ({ kind: 'ask', id }))];
  expect(thread(0).told).toEqual([{ kind: 'names' }, { kind: 'ask', id: 1 }]);
  thread(1).say({ kind: 'noted' });
  thread(1).say({ kind: 'said', id: 1, text: 'b' });
  thread(0).say({ kind: 'said', id: 1, text: 'a' });
  expect(await Promise.all(replies)).toMatchObject([{ text: 'a' }, { text: 'b' }]);
  expect([a.known.noted, b.known.noted]).toEqual([0, 1]);
});

test('one that ends before anything is in force is not replaced: who asked is told', async () => {
  const { clock, group, threads, thread, log } = world();
  const member = group.at(0);
  const reply = member.ask((id) => ({ kind: 'ask', id }));
  thread(0).end('no memory');
  expect(await reply).toEqual({ kind: 'gone', why: 'no memory' });
  expect(await member.ask((id) => ({ kind: 'ask', id }))).toEqual({ kind: 'gone', why: 'no memory' });
  await clock.advance(60_000);
  expect(threads).toHaveLength(1);
  expect(log).toEqual(['0 ended: no memory; for good']);
});

test('one that dies is replaced at once, then after 250, 500, 1,000 ms; at once again after a life of ten seconds', async () => {
  const { clock, group, threads, thread, log } = world();
  group.at(0);
  group.replaceEnded();
  for (const [n, ms] of [0, 250, 500, 1000].entries()) {
    thread(n).end('it fell');
    await clock.advance(Math.max(0, ms - 1));
    expect(threads).toHaveLength(ms === 0 ? n + 2 : n + 1);
    await clock.advance(1);
    expect(threads).toHaveLength(n + 2);
  }
  thread(4).say({ kind: 'said', id: 1, text: 'here' });
  await clock.advance(10_000);
  thread(4).end();
  await clock.advance(0);
  expect(threads).toHaveLength(6);
  expect(log.slice(-2)).toEqual(['0 follows: here', '0 ended: it stopped by itself; 0']);
});

test('one that is ended on purpose ends for the reason that is given', async () => {
  const { group, log } = world();
  group.replaceEnded();
  await group.at(3).terminate('it hung');
  expect(log).toEqual(['3 ended: it hung; 0']);
});

test('who asks all waits no longer than for so long', async () => {
  const { clock, group, thread } = world();
  group.at(0);
  group.at(1);
  let asked = false;
  const asking = group.askAll((id) => ({ kind: 'ask', id }), 500).then(() => (asked = true));
  thread(0).say({ kind: 'said', id: 1, text: 'a' });
  await clock.advance(499);
  expect(asked).toBe(false);
  await clock.advance(1);
  await asking;
});

test('a stop tells all, ends those that stay, and replaces none', async () => {
  const { clock, group, threads, thread, log } = world();
  group.replaceEnded();
  group.at(0);
  group.at(1);
  const stopped = group.stop({ kind: 'stop' }, 4000);
  expect(threads.map(({ told }) => told.at(-1))).toEqual([{ kind: 'stop' }, { kind: 'stop' }]);
  thread(0).end();
  await clock.advance(3999);
  expect(log).toEqual(['0 ended: it stopped by itself; for good']);
  await clock.advance(1);
  await stopped;
  expect(log).toHaveLength(2);
  expect(threads).toHaveLength(2);
});
