import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { FakeClock } from '../../src/system/clock-fake.ts';
import { freePort } from '../support/free-port.ts';
import { cluster, configWith, tally, udpPod, userspace } from './world.ts';
import { eventually } from '../support/until.ts';

const VIP = '127.96.202.1';

interface Client {
  readonly socket: Socket;
  /** Sends, and resolves with the answer and where it came from. */
  ask(text: string, port: number): Promise<{ readonly text: string; readonly from: string }>;
}

async function udpClient(): Promise<Client> {
  const socket = createSocket('udp4');
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  onTestFinished(() => new Promise((done) => socket.close(() => done())));
  return {
    socket,
    async ask(text, port) {
      socket.send(text, port, VIP);
      const [data, from] = (await once(socket, 'message', { signal: AbortSignal.timeout(3000) })) as [
        Buffer,
        { address: string; port: number },
      ];
      return { text: data.toString(), from: `${from.address}:${from.port}` };
    },
  };
}

test('answers come from the Service address, and a client keeps its endpoint', async () => {
  const pods = [await udpPod('127.0.1.21'), await udpPod('127.0.1.22')];
  const port = await freePort(VIP);
  const { backend, metrics } = userspace();
  await backend.sync(cluster([{ name: 'echo', ip: VIP, port, protocol: 'UDP', endpoints: pods }]).snapshot);
  const answers: string[] = [];
  for (let i = 0; i < 6; i++) {
    const client = await udpClient();
    const first = await client.ask('hello', port);
    expect(first.from).toBe(`${VIP}:${port}`);
    expect(await client.ask('hello', port)).toEqual(first);
    answers.push(first.text);
  }
  expect(tally(answers)).toEqual({ '127.0.1.21 hello': 3, '127.0.1.22 hello': 3 });
  expect(metrics.values.get('fairlead_userspace_flows')).toBe(6);
});

test('flows to an endpoint that is removed move to another at once', async () => {
  const [first, second] = [await udpPod('127.0.1.21'), await udpPod('127.0.1.22')];
  const port = await freePort(VIP);
  const { backend } = userspace();
  const spec = { name: 'echo', ip: VIP, port, protocol: 'UDP' } as const;
  const one = cluster([{ ...spec, endpoints: [first] }]);
  await backend.sync(one.snapshot);
  const client = await udpClient();
  expect((await client.ask('a', port)).text).toBe('127.0.1.21 a');
  const two = cluster([{ ...spec, endpoints: [first, second] }], one);
  await backend.sync(two.snapshot);
  expect((await client.ask('b', port)).text).toBe('127.0.1.21 b');
  const syncing = backend.sync(cluster([{ ...spec, endpoints: [second] }], two).snapshot);
  expect((await client.ask('c', port)).text).toBe('127.0.1.22 c');
  await syncing;
  expect(first.seen()).toBe(2);
});

test('a datagram that an endpoint refuses goes to the next one, each tried once', async () => {
  const [dead, live] = [await udpPod('127.0.1.21'), await udpPod('127.0.1.22')];
  await dead.stop();
  const port = await freePort(VIP);
  const { backend, metrics } = userspace();
  const spec = { name: 'echo', ip: VIP, port, protocol: 'UDP', affinityTimeoutSeconds: 60 } as const;
  const both = cluster([{ ...spec, endpoints: [dead, live] }]);
  await backend.sync(both.snapshot);
  for (let i = 0; i < 4; i++) {
    const client = await udpClient();
    expect((await client.ask('x', port)).text).toBe('127.0.1.22 x');
  }
  expect(metrics.values.get('fairlead_userspace_endpoint_failures_total')).toBeGreaterThan(0);
  await live.stop();
  const client = await udpClient();
  client.socket.send('y', port, VIP);
  await eventually('the flow is given up when every endpoint has refused', () => {
    return metrics.values.get('fairlead_userspace_flows') === 4;
  });
});

test('a flow that is silent for its time ends, and the longest silent makes room for a new one', async () => {
  const pod = await udpPod('127.0.1.21');
  const port = await freePort(VIP);
  const clock = new FakeClock();
  const { backend, metrics } = userspace({ clock, udpIdleTimeoutMs: 60_000, config: configWith({ maxUdpFlows: 3 }) });
  await backend.sync(cluster([{ name: 'echo', ip: VIP, port, protocol: 'UDP', endpoints: [pod] }]).snapshot);
  const flows = () => metrics.values.get('fairlead_userspace_flows');
  const clients = [await udpClient(), await udpClient(), await udpClient(), await udpClient()];
  for (const client of clients) await client.ask('x', port);
  expect(flows()).toBe(3);
  await clock.advance(40_000);
  await clients[3]?.ask('x', port);
  await clock.advance(40_000);
  expect(flows()).toBe(1);
  await clock.advance(80_000);
  expect(flows()).toBe(0);
  expect((await clients[0]?.ask('again', port))?.text).toBe('127.0.1.21 again');
});

test('flows that have to make room are told once with the mend, and when they keep their time again', async () => {
  const pod = await udpPod('127.0.1.21');
  const port = await freePort(VIP);
  const clock = new FakeClock();
  const { backend, metrics, log } = userspace({
    clock,
    udpIdleTimeoutMs: 60_000,
    config: configWith({ maxUdpFlows: 10 }),
  });
  await backend.sync(cluster([{ name: 'echo', ip: VIP, port, protocol: 'UDP', endpoints: [pod] }]).snapshot);
  for (let i = 0; i < 10; i++) await (await udpClient()).ask('x', port);
  expect(log.warnings).toEqual([]);
  for (let i = 0; i < 4; i++) await (await udpClient()).ask('x', port);
  expect(log.warnings).toEqual([
    expect.stringMatching(
      /^10 UDP flows are carried, the most there may be.* Mend: a higher --userspace-max-udp-flows/,
    ),
  ]);
  expect(metrics.values.get('fairlead_userspace_flows_evicted_total')).toBe(4);
  expect(log.notes).not.toContain('UDP flows keep their time again');
  await clock.advance(80_000);
  expect(log.notes.filter((note) => note === 'UDP flows keep their time again')).toHaveLength(1);
  for (let i = 0; i < 11; i++) await (await udpClient()).ask('x', port);
  expect(log.warnings).toHaveLength(2);
});

test('more flows than files may be open for are told at the start', async () => {
  const pod = await udpPod('127.0.1.21');
  const port = await freePort(VIP);
  const { backend, log } = userspace({ config: configWith({ maxUdpFlows: 5000 }), openFiles: 64 });
  await backend.sync(cluster([{ name: 'echo', ip: VIP, port, protocol: 'UDP', endpoints: [pod] }]).snapshot);
  expect(log.warnings).toEqual([
    expect.stringMatching(/--userspace-max-udp-flows 5000 .* 64 files .* 16 at most.*Mend: `ulimit -n/),
  ]);
});

test('where every source is dropped the socket stays silent, and without endpoints the kernel refuses', async () => {
  const pod = await udpPod('127.0.1.21');
  const port = await freePort(VIP);
  const { backend } = userspace();
  const spec = { name: 'echo', ip: VIP, port, protocol: 'UDP', internalTrafficPolicy: 'Local' } as const;
  const other = { name: 'other', ip: VIP, port: await freePort(VIP), protocol: 'UDP', endpoints: [pod] } as const;
  const elsewhere = cluster([other, { ...spec, endpoints: [{ ...pod, node: 'node-b' }] }]);
  await backend.sync(elsewhere.snapshot);
  const errors: unknown[] = [];
  const socket = createSocket('udp4');
  socket.on('error', (error) => errors.push(error));
  onTestFinished(() => new Promise((done) => socket.close(() => done())));
  await new Promise<void>((done) => socket.connect(port, VIP, done));
  socket.send('x');
  const here = cluster([other, { ...spec, endpoints: [pod] }], elsewhere);
  const client = await udpClient();
  client.socket.send('x', port, VIP);
  // Sent after the two above, and answered: those have been read and dropped.
  expect((await client.ask('z', other.port)).text).toBe('127.0.1.21 z');
  await backend.sync(here.snapshot);
  expect((await client.ask('y', port)).text).toBe('127.0.1.21 y');
  expect(errors).toEqual([]);
  await backend.sync(cluster([other, { ...spec, endpoints: [] }], here).snapshot);
  socket.send('x', () => {});
  await eventually('the refusal is heard', () => errors.length > 0 || (socket.send('x', () => {}), false));
  expect(errors[0]).toMatchObject({ code: 'ECONNREFUSED' });
});

test('carries a burst of datagrams of every size up to the largest', async () => {
  const pod = await udpPod('127.0.1.21');
  const port = await freePort(VIP);
  const { backend } = userspace();
  await backend.sync(cluster([{ name: 'echo', ip: VIP, port, protocol: 'UDP', endpoints: [pod] }]).snapshot);
  const client = await udpClient();
  for (const size of [0, 1, 512, 1472, 9000, 60_000]) {
    const text = 'x'.repeat(size);
    expect((await client.ask(text, port)).text).toBe(`127.0.1.21 ${text}`);
  }
  let answers = 0;
  client.socket.on('message', () => answers++);
  for (let i = 0; i < 50; i++) client.socket.send(`n${i}`, port, VIP);
  await eventually('every datagram of the burst is answered', () => answers === 50);
});
