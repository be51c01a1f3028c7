import { expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { ask, cluster, tcpPod, udpPod, userspace, type Pod } from './world.ts';
import type { Resolution } from '../../src/model/resolve.ts';
import { systemClock } from '../../src/system/clock.ts';

const VIP = '127.96.204.1';

test('not one of thousands of connections fails or reaches a removed endpoint while endpoints come and go', async () => {
  const pods: Pod[] = [];
  for (let i = 0; i < 6; i++) pods.push(await tcpPod(`127.0.1.${40 + i}`));
  const port = await freePort(VIP);
  const { backend, metrics } = userspace();
  let resolution: Resolution | undefined;
  const syncWith = async (endpoints: readonly Pod[]): Promise<void> => {
    resolution = cluster([{ name: 'web', ip: VIP, port, endpoints }], resolution);
    await backend.sync(resolution.snapshot);
  };
  await syncWith(pods);

  const done = new AbortController();
  const failures: unknown[] = [];
  let answered = 0;
  const client = async (): Promise<void> => {
    while (!done.signal.aborted) {
      await ask(VIP, port, 'x').then(
        (answer) => void (answered += answer === '' ? 0 : 1),
        (error: unknown) => void failures.push(error),
      );
    }
  };
  const clients = Promise.all(Array.from({ length: 8 }, client));

  const wrong: string[] = [];
  for (let round = 0; round < 60; round++) {
    const kept = pods.filter((_, i) => (i + round) % 3 !== 0);
    const gone = pods.filter((pod) => !kept.includes(pod));
    await syncWith(kept);
    // What was under way when the sync began may still be arriving at its endpoint's accept.
    await systemClock.sleep(5);
    const before = gone.map((pod) => pod.seen());
    await systemClock.sleep(20);
    for (const [i, pod] of gone.entries()) if (pod.seen() !== before[i]) wrong.push(`${round}: ${pod.ip}`);
  }
  done.abort();
  await clients;
  expect(failures).toEqual([]);
  expect(wrong).toEqual([]);
  expect(answered).toBeGreaterThan(1000);
  expect(metrics.values.get('fairlead_userspace_endpoint_failures_total') ?? 0).toBe(0);
});

test('pods that stop after they were removed cost no connection', async () => {
  const port = await freePort(VIP);
  const { backend } = userspace();
  let resolution: Resolution | undefined;
  let pods: Pod[] = [await tcpPod('127.0.1.50'), await tcpPod('127.0.1.51')];
  const sync = async (): Promise<void> => {
    resolution = cluster([{ name: 'web', ip: VIP, port, endpoints: pods }], resolution);
    await backend.sync(resolution.snapshot);
  };
  await sync();
  const done = new AbortController();
  let answered = 0;
  const failures: unknown[] = [];
  const client = async (): Promise<void> => {
    while (!done.signal.aborted) {
      await ask(VIP, port).then(
        () => void answered++,
        (error: unknown) => void failures.push(error),
      );
    }
  };
  const clients = Promise.all(Array.from({ length: 4 }, client));
  for (let round = 0; round < 15; round++) {
    const [oldest, ...rest] = pods;
    pods = [...rest, await tcpPod(`127.0.1.${52 + round}`)];
    await sync();
    // A terminating Pod finishes what it has; its connections here are ended by their clients.
    await systemClock.sleep(20);
    await oldest?.stop();
  }
  done.abort();
  await clients;
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(100);
});

test('a thousand Services come and go with their listeners', async () => {
  const pod = await udpPod('127.0.1.70');
  const { backend, metrics } = userspace();
  const specs = Array.from({ length: 1000 }, (_, i) => ({
    name: `s${i}`,
    ip: `127.96.205.${i % 250}`,
    port: 20_000 + Math.floor(i / 250),
    protocol: i % 2 === 0 ? ('TCP' as const) : ('UDP' as const),
    endpoints: [pod],
  }));
  const all = cluster(specs);
  const begun = performance.now();
  await backend.sync(all.snapshot);
  expect(performance.now() - begun).toBeLessThan(5_000);
  expect(metrics.values.get('fairlead_userspace_listeners')).toBe(1000);
  await backend.sync(cluster([], all).snapshot);
  expect(metrics.values.get('fairlead_userspace_listeners')).toBe(0);
  expect(await backend.sync(all.snapshot)).toEqual({ kind: 'applied', counts: { opened: 1000 } });
});
