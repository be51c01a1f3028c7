import { expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { until } from '../support/until.ts';
import { ask, cluster, tcpPod, udpPod, userspace, type Pod } from './world.ts';
import type { Resolution } from '../../src/model/resolve.ts';

const VIP = '127.96.204.1';

test('not one of hundreds of connections fails or reaches a removed endpoint while endpoints come and go', async () => {
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

  const clients = new Clients(8, () => ask(VIP, port, 'x'));
  const wrong: string[] = [];
  for (let round = 0; round < 30; round++) {
    const kept = pods.filter((_, i) => (i + round) % 3 !== 0);
    const gone = pods.filter((pod) => !kept.includes(pod));
    await syncWith(kept);
    // What was under way when the sync began may still have been arriving.
    await clients.allAsked();
    const before = gone.map((pod) => pod.seen());
    await clients.allAsked();
    for (const [i, pod] of gone.entries()) if (pod.seen() !== before[i]) wrong.push(`${round}: ${pod.ip}`);
  }
  const { answered, failures } = await clients.stop();
  expect(failures).toEqual([]);
  expect(wrong).toEqual([]);
  expect(answered).toBeGreaterThan(450);
  expect(metrics.values.get('fairlead_userspace_endpoint_failures_total') ?? 0).toBe(0);
});

/** Ask all the time, each one thing after the other. */
class Clients {
  readonly #asked: number[];
  readonly #running: Promise<unknown>;
  readonly #failures: unknown[] = [];
  #stopped = false;

  constructor(count: number, ask: () => Promise<unknown>) {
    this.#asked = Array.from({ length: count }, () => 0);
    const run = async (client: number): Promise<void> => {
      while (!this.#stopped) {
        await ask().catch((error: unknown) => this.#failures.push(error));
        this.#asked[client] = (this.#asked[client] ?? 0) + 1;
      }
    };
    this.#running = Promise.all(this.#asked.map((_, client) => run(client)));
  }

  /** Resolves when each has begun something since, and has had its answer. */
  async allAsked(): Promise<void> {
    const before = [...this.#asked];
    await until(() => this.#asked.every((asked, client) => asked >= (before[client] ?? 0) + 2));
  }

  async stop(): Promise<{ readonly answered: number; readonly failures: readonly unknown[] }> {
    this.#stopped = true;
    await this.#running;
    return { answered: this.#asked.reduce((a, b) => a + b) - this.#failures.length, failures: this.#failures };
  }
}

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
  const clients = new Clients(4, () => ask(VIP, port));
  for (let round = 0; round < 15; round++) {
    const [oldest, ...rest] = pods;
    pods = [...rest, await tcpPod(`127.0.1.${52 + round}`)];
    await sync();
    // A terminating Pod finishes what it has; its connections here are ended by their clients.
    await clients.allAsked();
    await oldest?.stop();
  }
  const { answered, failures } = await clients.stop();
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
  await backend.sync(all.snapshot);
  expect(metrics.values.get('fairlead_userspace_listeners')).toBe(1000);
  await backend.sync(cluster([], all).snapshot);
  expect(metrics.values.get('fairlead_userspace_listeners')).toBe(0);
  expect(await backend.sync(all.snapshot)).toEqual({ kind: 'applied', counts: { opened: 1000 } });
});
