// What becomes of clients whose endpoint goes away, in IPVS mode on a real kernel. The kernel remembers ended connections for ten seconds and more,
// so the tests share one node and wait at the same time: each has Services of its own.

import { afterAll, beforeAll, describe, test } from 'vitest';
import { digestOf } from '../support/download.ts';
import type { ServiceSketch } from '../rules/cluster.ts';
import { until } from '../support/until.ts';
import { IpvsWorld, LIMIT_MS, WAIT_MS } from './ipvs-world.ts';

const PODS = { a: '10.0.0.1', b: '10.0.0.2' } as const;
type PodName = keyof typeof PODS;

type Download = Awaited<ReturnType<IpvsWorld['client']['download']>>;

const BYTES = 8 * 1024 * 1024;
const PORTS = { once: 8080, talk: 8081, download: 8082, dns: 5353 };

let world: IpvsWorld;

beforeAll(async () => {
  world = await IpvsWorld.create(PODS);
  for (const [name, address] of Object.entries(PODS)) {
    const pod = world.pod(name);
    await pod.serve({ protocol: 'TCP', address, port: PORTS.once, name });
    await pod.serve({ protocol: 'TCP', address, port: PORTS.talk, name, keeps: true });
    await pod.serve({ protocol: 'TCP', address, port: PORTS.download, name, sends: BYTES });
    await pod.serve({ protocol: 'UDP', address, port: PORTS.dns, name });
  }
  await world.start([]);
}, LIMIT_MS);
afterAll(() => world?.close());

/** The Service at `address`, with Pods that are ready or, with `…` before the name, terminate. */
function service(
  name: string,
  address: string,
  kind: keyof typeof PORTS,
  pods: readonly (PodName | `…${PodName}`)[],
  more: Partial<ServiceSketch> = {},
): ServiceSketch {
  const endpoints = pods.map((pod) => {
    const place = `${PODS[pod.replace('…', '') as PodName]}:${PORTS[kind]}`;
    return pod.startsWith('…') ? `${place} terminating` : place;
  });
  return { name, clusterIPs: [address], endpoints, ...more };
}

/** The real servers of the Service at `address`, each with its weight. */
async function reals(address: string): Promise<readonly string[]> {
  const saved = await world.servers();
  return [...saved.matchAll(new RegExp(`^-a -[tu] ${address}:\\d+ -r (\\S+):\\d+ -m -w (\\d+)$`, 'gm'))]
    .map(([, real = '', weight = '']) => `${real} ${weight}`)
    .sort();
}

/** How many connections are open to each real server of the Service at `address`. */
async function open(address: string): Promise<Readonly<Record<string, number>>> {
  const listing = await world.node.run('ipvsadm', '-L', '-n', '-t', `${address}:80`);
  const found = listing.matchAll(/-> ([0-9.]+):\d+ +Masq +\d+ +(\d+)/g);
  return Object.fromEntries([...found].map(([, real = '', count]) => [real, Number(count)]));
}

describe.concurrent('in IPVS mode', () => {
  test(
    'a slow download goes on while its endpoint terminates and when it is removed, and comes whole; then the real server goes',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const address = '172.30.0.3';
      const files = (...pods: Parameters<typeof service>[3]) => service('files', address, 'download', pods);
      await world.change(files('a'));
      const download = await world.client.download({ address, port: 80, everyMs: 500 });
      const comes = async (): Promise<void> => {
        const { bytes } = await download.state();
        await until(async () => (await download.state()).bytes > bytes, WAIT_MS);
      };
      try {
        await comes();
        for (const state of [files('…a', 'b'), files('b')]) {
          await world.change(state);
          expect(await reals(address)).toEqual([`${PODS.a} 0`, `${PODS.b} 1`]);
          await comes();
          expect(await download.state()).toMatchObject({ ended: '' });
        }
        await download.hurry();
        await until(async () => (await download.state()).ended !== '', WAIT_MS);
        expect(await download.state()).toEqual({ bytes: BYTES, digest: digestOf(BYTES), ended: 'END' });
        expect(await reals(address)).toEqual([`${PODS.a} 0`, `${PODS.b} 1`]);
      } finally {
        await download.close();
      }
      await until(async () => (await reals(address)).join() === `${PODS.b} 1`, WAIT_MS);
    },
  );

  test(
    'a conversation outlives the removal of its endpoint, which goes with it; new ones go elsewhere',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const address = '172.30.0.2';
      await world.change(service('long', address, 'talk', ['a']));
      const talk = await world.client.talk({ address, port: 80, everyMs: 50 });
      try {
        await until(async () => (await talk.state()).by === 'a', WAIT_MS);
        await world.change(service('long', address, 'talk', ['b']));
        const { answers } = await talk.state();
        expect(await reals(address)).toEqual([`${PODS.a} 0`, `${PODS.b} 1`]);
        for (let i = 0; i < 3; i++) {
          const other = await world.client.talk({ address, port: 80, everyMs: 50 });
          await until(async () => (await other.state()).by !== '', WAIT_MS);
          expect(await other.state()).toMatchObject({ by: 'b' });
          await other.close();
        }
        await until(async () => (await talk.state()).answers > answers + 20, WAIT_MS);
        expect(await talk.state()).toMatchObject({ by: 'a', ended: '' });
      } finally {
        await talk.close();
      }
      await until(async () => (await reals(address)).join() === `${PODS.b} 1`, WAIT_MS);
    },
  );

  test(
    'a UDP client that keeps its source port reaches the next endpoint, and nobody when there is none',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const address = '172.30.0.10';
      const dns = (...pods: readonly PodName[]) =>
        service('dns', address, 'dns', pods, { protocol: 'UDP', port: 53, nodePort: 30_053 });
      const ask = async (to: string, port: number): Promise<string> => {
        const outcome = await world.client.connect({
          protocol: 'UDP',
          address: to,
          port,
          sourcePort: 40_000,
          timeoutMs: 2000,
        });
        return outcome.kind === 'answered' ? outcome.by : outcome.kind;
      };
      for (const [pods, answer] of [
        [['a'], 'a'],
        [['b'], 'b'],
        [[], 'refused'],
        [['a'], 'a'],
      ] as const) {
        await world.change(dns(...pods));
        for (const [to, port] of [
          [address, 53],
          ['192.168.0.2', 30_053],
        ] as const) {
          // The kernel may drop one datagram of a flow whose real server is gone, before it chooses another.
          const said = await ask(to, port);
          expect([answer, 'silence']).toContain(said);
          expect(await ask(to, port)).toBe(answer);
        }
      }
    },
  );

  test(
    'a TCP client that comes again from the same port reaches the next endpoint, not the one that drains',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const address = '172.30.0.30';
      for (const [pod, weights] of [
        ['a', [`${PODS.a} 1`]],
        ['b', [`${PODS.a} 0`, `${PODS.b} 1`]],
      ] as const) {
        await world.change(service('again', address, 'once', [pod]));
        expect(await reals(address)).toEqual(weights);
        const outcome = await world.client.connect({ protocol: 'TCP', address, port: 80, sourcePort: 41_000 });
        expect(outcome).toMatchObject({ kind: 'answered', by: pod });
      }
    },
  );

  test(
    'affinity keeps a client on one endpoint, also beyond its connections, and lets it go after the time-out',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const address = '172.30.0.20';
      // Longer than the ten seconds for which the kernel remembers a connection that was reset.
      await world.change(service('sticky', address, 'talk', ['a', 'b'], { affinitySeconds: 13 }));
      const visit = async (): Promise<string> => {
        const talk = await world.client.talk({ address, port: 80, everyMs: 20 });
        await until(async () => (await talk.state()).by !== '', WAIT_MS);
        const { by } = await talk.state();
        await talk.close();
        return by;
      };
      const first = await visit();
      for (let i = 0; i < 4; i++) expect(await visit()).toBe(first);
      // The template of the client has no port of its own.
      const template = / CB007102 0000 AC1E0014 0050 /;
      const isKept = async () => template.test(await world.node.run('cat', '/proc/net/ip_vs_conn'));
      expect(await isKept()).toBe(true);
      await until(async () => !(await isKept()), WAIT_MS);
      // Nobody else came, so the turn is the other's.
      expect(await visit()).not.toBe(first);
    },
  );

  test(
    'affinity lets go of an endpoint that is removed, while its old connection goes on',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const address = '172.30.0.21';
      const moving = (...pods: readonly PodName[]) =>
        service('moving', address, 'talk', pods, { affinitySeconds: 600 });
      await world.change(moving('a', 'b'));
      const old = await world.client.talk({ address, port: 80, everyMs: 50 });
      try {
        await until(async () => (await old.state()).by !== '', WAIT_MS);
        const { by } = await old.state();
        const other = by === 'a' ? 'b' : 'a';
        await world.change(moving(other));
        const { answers } = await old.state();
        const fresh = await world.client.talk({ address, port: 80, everyMs: 50 });
        await until(async () => (await fresh.state()).by !== '', WAIT_MS);
        expect(await fresh.state()).toMatchObject({ by: other });
        await fresh.close();
        await until(async () => (await old.state()).answers > answers + 5, WAIT_MS);
        expect(await old.state()).toMatchObject({ by, ended: '' });
      } finally {
        await old.close();
      }
    },
  );
});

// Nothing else may run then: it is the plane of all of them that stops.
describe('in IPVS mode, across a restart', () => {
  test(
    'slow downloads come whole from endpoints that the new process never sees; nothing new goes there, and the real servers go with them',
    { timeout: LIMIT_MS },
    async ({ expect }) => {
      const [drained, missed] = ['172.30.0.40', '172.30.0.41'] as const;
      const after = [service('drained', drained, 'download', ['b']), service('missed', missed, 'download', ['b'])];
      await world.change(...after.map((each) => ({ ...each, endpoints: [`${PODS.a}:${PORTS.download}`] })));
      const downloads: Download[] = [];
      const begin = async (address: string): Promise<Download> => {
        // As long as it is slow it takes four minutes: however busy the machine is, it is not at its end before.
        const download = await world.client.download({ address, port: 80, everyMs: 2000 });
        downloads.push(download);
        return download;
      };
      const comes = async (download: Download): Promise<void> => {
        const { bytes } = await download.state();
        await until(async () => (await download.state()).bytes > bytes, WAIT_MS);
      };
      try {
        const old = [await begin(drained), await begin(missed)];
        await Promise.all(old.map(comes));
        // One endpoint goes before the restart, the other while nothing of ours runs.
        await world.change(service('drained', drained, 'download', ['b']));
        await world.stop();
        await world.start(after);
        const goOn = async (address: string): Promise<void> => {
          expect(await reals(address)).toEqual([`${PODS.a} 0`, `${PODS.b} 1`]);
          await Promise.all([await begin(address), await begin(address)].map(comes));
          expect(await open(address)).toEqual({ [PODS.a]: 1, [PODS.b]: 2 });
        };
        await Promise.all([goOn(drained), goOn(missed)]);
        const end = async (download: Download): Promise<void> => {
          await comes(download);
          expect(await download.state()).toMatchObject({ ended: '' });
          await download.hurry();
          await until(async () => (await download.state()).ended !== '', WAIT_MS);
          expect(await download.state()).toEqual({ bytes: BYTES, digest: digestOf(BYTES), ended: 'END' });
        };
        await Promise.all(old.map(end));
        for (const address of [drained, missed]) expect(await reals(address)).toContain(`${PODS.a} 0`);
      } finally {
        await Promise.all(downloads.map((download) => download.close()));
      }
      for (const address of [drained, missed]) {
        await until(async () => (await reals(address)).join() === `${PODS.b} 1`, WAIT_MS);
      }
    },
  );
});
