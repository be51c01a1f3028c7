import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { interfaceAddresses } from '../../src/system/interfaces.ts';
import { FakeClock } from '../../src/system/clock-fake.ts';
import { systemTcp, type Tcp } from '../../src/system/tcp.ts';
import { freePort } from '../support/free-port.ts';
import { ask, cluster, dial, tally, tcpPod, userspace, type ServiceSpec } from './world.ts';
import { eventually } from '../support/until.ts';
import { ip } from '../support/values.ts';

const VIP = '127.96.201.1';

async function askTimes(times: number, port: number): Promise<readonly string[]> {
  const answers: string[] = [];
  for (let i = 0; i < times; i++) answers.push(await ask(VIP, port));
  return answers;
}

test('spreads connections evenly over the endpoints', async () => {
  const pods = [await tcpPod('127.0.1.11'), await tcpPod('127.0.1.12'), await tcpPod('127.0.1.13')];
  const port = await freePort(VIP);
  const { backend } = userspace();
  const outcome = await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: pods }]).snapshot);
  expect(outcome).toEqual({ kind: 'applied', counts: { opened: 1 } });
  expect(tally(await askTimes(30, port))).toEqual({ '127.0.1.11': 10, '127.0.1.12': 10, '127.0.1.13': 10 });
});

test('follows a Service that is scaled up and down, and keeps what is open', async () => {
  const [first, second] = [await tcpPod('127.0.1.11'), await tcpPod('127.0.1.12')];
  const port = await freePort(VIP);
  const { backend } = userspace();
  const one = cluster([{ name: 'web', ip: VIP, port, endpoints: [first] }]);
  await backend.sync(one.snapshot);
  const open = await dial(VIP, port);
  await once(open, 'data');
  const two = cluster([{ name: 'web', ip: VIP, port, endpoints: [first, second] }], one);
  expect(await backend.sync(two.snapshot)).toEqual({ kind: 'applied', counts: { changed: 1 } });
  expect(Object.keys(tally(await askTimes(4, port)))).toHaveLength(2);
  const seen = first.seen();
  const syncing = backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [second] }], two).snapshot);
  // Not even before the sync resolves.
  expect(tally(await askTimes(10, port))).toEqual({ '127.0.1.12': 10 });
  await syncing;
  expect(first.seen()).toBe(seen);
  open.end();
  await once(open, 'end');
});

test('refuses where a Service has no endpoints, and serves again when it has', async () => {
  const pod = await tcpPod('127.0.1.11');
  const port = await freePort(VIP);
  const { backend } = userspace();
  const none = cluster([{ name: 'web', ip: VIP, port, endpoints: [] }]);
  await backend.sync(none.snapshot);
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  const some = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }], none);
  await backend.sync(some.snapshot);
  expect(await ask(VIP, port)).toBe('127.0.1.11');
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [] }], some).snapshot);
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('a deleted Service refuses, and its connections go on to their end', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => socket.pipe(socket));
  const port = await freePort(VIP);
  const { backend, metrics } = userspace();
  const web = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]);
  await backend.sync(web.snapshot);
  const open = await dial(VIP, port);
  open.write('one');
  expect(String((await once(open, 'data'))[0])).toBe('one');
  await backend.sync(cluster([], web).snapshot);
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  open.write('two');
  expect(String((await once(open, 'data'))[0])).toBe('two');
  expect(metrics.values.get('fairlead_userspace_connections')).toBe(1);
  open.end();
  await once(open, 'end');
  await eventually('the connection is counted out', () => metrics.values.get('fairlead_userspace_connections') === 0);
  expect(metrics.values.get('fairlead_userspace_listeners')).toBe(0);
});

test('passes on a half close in either direction', async () => {
  // Answers only after the client has ended; then ends itself first and keeps reading.
  const late = await tcpPod('127.0.1.11', (socket) => {
    let got = '';
    socket.on('data', (data) => (got += data.toString()));
    socket.on('end', () => socket.end(`heard ${got}`));
  });
  let heard = '';
  const early = await tcpPod('127.0.1.12', (socket) => {
    socket.end('bye');
    socket.on('data', (data) => (heard += data.toString()));
  });
  const port = await freePort(VIP);
  const { backend } = userspace();
  const first = cluster([{ name: 'web', ip: VIP, port, endpoints: [late] }]);
  await backend.sync(first.snapshot);
  expect(await ask(VIP, port, 'question')).toBe('heard question');

  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [early] }], first).snapshot);
  const socket = await dial(VIP, port);
  socket.resume();
  await once(socket, 'end');
  socket.write('still ');
  socket.end('talking');
  await eventually('the pod hears what comes after its own end', () => heard === 'still talking');
});

test('carries megabytes both ways at once without growing, whoever reads slowly', async () => {
  const size = 24 << 20;
  const sent = randomBytes(size);
  const pod = await tcpPod('127.0.1.11', (socket) => socket.pipe(socket));
  const port = await freePort(VIP);
  const { backend } = userspace();
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  const socket = await dial(VIP, port);
  let taken = 0;
  let offset = 0;
  const piece = 1 << 16;
  const feed = (): void => {
    while (offset < size) {
      const part = sent.subarray(offset, offset + piece);
      offset += part.length;
      if (!socket.write(part)) {
        socket.once('drain', feed);
        return;
      }
    }
    socket.end();
  };
  feed();
  // Nobody reads: what is under way fills the buffers of relay and kernel and stops there.
  let before = -1;
  let still = 0;
  await eventually('the writer is held back', () => {
    still = before === offset ? still + 1 : 0;
    before = offset;
    return still >= 10;
  });
  expect(offset).toBeLessThan(size);
  const hash = createHash('sha256');
  socket.on('data', (data) => {
    taken += data.length;
    hash.update(data);
  });
  await once(socket, 'end');
  expect(taken).toBe(size);
  expect(hash.digest('hex')).toBe(createHash('sha256').update(sent).digest('hex'));
});

test('tries the next endpoint when one refuses, and resets the client when all do', async () => {
  const [dead, live] = [await tcpPod('127.0.1.11'), await tcpPod('127.0.1.12')];
  await dead.stop();
  const port = await freePort(VIP);
  const { backend, metrics } = userspace();
  const both = cluster([{ name: 'web', ip: VIP, port, endpoints: [dead, live] }]);
  await backend.sync(both.snapshot);
  expect(tally(await askTimes(6, port))).toEqual({ '127.0.1.12': 6 });
  expect(metrics.values.get('fairlead_userspace_endpoint_failures_total')).toBeGreaterThan(0);
  await live.stop();
  await expect(ask(VIP, port, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });
});

test('passes a reset on, but not before an answer that was sent to its end', async () => {
  const rude = await tcpPod('127.0.1.11', (socket) => {
    socket.once('data', () => socket.resetAndDestroy());
  });
  // Answers and closes without reading what the client still sends.
  const hasty = await tcpPod('127.0.1.12', (socket) => {
    socket.end('too large\n', () => socket.destroy());
  });
  const port = await freePort(VIP);
  const { backend } = userspace();
  const first = cluster([{ name: 'web', ip: VIP, port, endpoints: [rude] }]);
  await backend.sync(first.snapshot);
  await expect(ask(VIP, port, 'x')).rejects.toMatchObject({ code: 'ECONNRESET' });

  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [hasty] }], first).snapshot);
  const socket = await dial(VIP, port);
  let answer = '';
  socket.on('data', (data) => (answer += data.toString()));
  // Nothing after it: a write that meets the server's reset fails before the answer is read, whoever makes it.
  socket.write(Buffer.alloc(1024));
  socket.once('end', () => socket.end());
  await new Promise((done) => socket.once('close', done));
  expect(answer).toBe('too large\n');
});

/** Asks by the first byte and goes on writing all the time, as one who uploads; gives what came back before the connection was over. */
async function askWhileWriting(port: number): Promise<string> {
  const socket = await dial(VIP, port);
  let answer = '';
  socket.on('data', (data) => (answer += data.toString()));
  const more = setInterval(() => socket.write(Buffer.alloc(512)), 1);
  await new Promise((done) => socket.once('close', done));
  clearInterval(more);
  return answer;
}

test.each([
  ['resets', (socket: Socket) => socket.once('data', () => socket.write('refused\n', () => socket.resetAndDestroy()))],
  ['closes', (socket: Socket) => socket.once('data', () => socket.end('refused\n', () => socket.destroy()))],
])('an answer reaches a client that goes on writing when the server %s behind it', async (_how, handle) => {
  const pod = await tcpPod('127.0.1.11', handle);
  const port = await freePort(VIP);
  const { backend } = userspace();
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  const answers = await Promise.all(Array.from({ length: 40 }, () => askWhileWriting(port)));
  expect(tally(answers)).toEqual({ 'refused\n': 40 });
});

test('with session affinity a client keeps its endpoint until that endpoint leaves', async () => {
  const pods = [await tcpPod('127.0.1.11'), await tcpPod('127.0.1.12'), await tcpPod('127.0.1.13')];
  const port = await freePort(VIP);
  const { backend } = userspace();
  const spec = { name: 'web', ip: VIP, port, affinityTimeoutSeconds: 60 };
  const all = cluster([{ ...spec, endpoints: pods }]);
  await backend.sync(all.snapshot);
  const answers = new Map<string, Set<string>>();
  for (let i = 0; i < 5; i++) {
    for (const client of ['127.0.2.1', '127.0.2.2', '127.0.2.3']) {
      const known = answers.get(client) ?? new Set<string>();
      answers.set(client, known.add(await ask(VIP, port, '', client)));
    }
  }
  expect([...answers.values()].map((set) => set.size)).toEqual([1, 1, 1]);
  expect(new Set([...answers.values()].flatMap((set) => [...set])).size).toBe(3);
  const [mine] = answers.get('127.0.2.1') ?? [];
  const left = pods.filter((pod) => pod.ip !== mine);
  await backend.sync(cluster([{ ...spec, endpoints: left }], all).snapshot);
  const next = await ask(VIP, port, '', '127.0.2.1');
  expect(next).not.toBe(mine);
  await backend.sync(cluster([{ ...spec, endpoints: pods }]).snapshot);
  expect(await ask(VIP, port, '', '127.0.2.1')).toBe(next);
});

test('a source that the load balancer ranges leave out gets nothing, others are served', async () => {
  const pod = await tcpPod('127.0.1.11');
  const port = await freePort(VIP);
  const clock = new FakeClock();
  const { backend } = userspace({ clock });
  const lb = '127.96.201.9';
  const spec = {
    name: 'web',
    ip: VIP,
    port,
    type: 'LoadBalancer',
    loadBalancerIPs: [{ ip: ip(lb), vip: true }],
    sourceRanges: ['127.0.2.0/24'],
    endpoints: [pod],
  } as const;
  const ranges = { ...spec, sourceRanges: spec.sourceRanges.map((text) => text as never) };
  await backend.sync(cluster([ranges]).snapshot);
  expect(await ask(lb, port, '', '127.0.2.5')).toBe('127.0.1.11');
  const refused = await dial(lb, port, '127.0.3.5');
  const closed = new Promise((done) => refused.once('close', done));
  refused.resume();
  refused.write('x');
  expect(await ask(lb, port, '', '127.0.2.5')).toBe('127.0.1.11');
  expect(pod.seen()).toBe(2);
  expect(refused.destroyed).toBe(false);
  // Held in silence, and reset in the end.
  await clock.advance(10_000);
  expect(await closed).toBe(true);
  expect(refused.bytesRead).toBe(0);
});

/** Connects as the system does, but never comes to an end at one address. */
function tcpSilentAt(address: string): Tcp {
  return {
    ...systemTcp,
    connect: (options) =>
      options.address === address
        ? new Promise((done) => {
            options.signal.addEventListener('abort', () => done({ kind: 'failed', code: 'ABORTED' }), { once: true });
          })
        : systemTcp.connect(options),
  };
}

/** A client of a Service whose first endpoint is silent and whose second one answers, on its way to the first. */
async function onItsWay(more: Partial<ServiceSpec> = {}) {
  const pod = await tcpPod('127.0.1.12');
  const port = await freePort(VIP);
  const clock = new FakeClock();
  const { backend, metrics } = userspace({ clock, tcp: tcpSilentAt('127.0.1.11') });
  const web = { name: 'web', ip: VIP, port, endpoints: [{ ip: '127.0.1.11', port: 9 }, pod], ...more };
  const first = cluster([web]);
  await backend.sync(first.snapshot);
  const answer = ask(VIP, port);
  await eventually('the relay has the connection', () => metrics.values.get('fairlead_userspace_connections') === 1);
  return { pod, port, clock, backend, metrics, web, first, answer };
}

test('a client whose endpoint does not answer soon gets another one', async () => {
  const { pod, clock, metrics, answer } = await onItsWay();
  await clock.advance(249);
  expect(pod.seen()).toBe(0);
  await clock.advance(1);
  expect(await answer).toBe('127.0.1.12');
  expect(metrics.values.get('fairlead_userspace_endpoint_failures_total')).toBe(1);
});

test('with session affinity a client leaves a silent endpoint once', async () => {
  const { port, clock, answer } = await onItsWay({ affinityTimeoutSeconds: 60 });
  await clock.advance(1_500);
  expect(await answer).toBe('127.0.1.12');
  for (let i = 0; i < 3; i++) expect(await ask(VIP, port)).toBe('127.0.1.12');
});

test('a connection on its way to an endpoint that is removed goes to another at once', async () => {
  const { pod, backend, metrics, web, first, answer } = await onItsWay();
  await backend.sync(cluster([{ ...web, endpoints: [pod] }], first).snapshot);
  expect(await answer).toBe('127.0.1.12');
  expect(metrics.values.get('fairlead_userspace_endpoint_failures_total')).toBeUndefined();
});

test.runIf(interfaceAddresses().includes(ip('::1')))('relays over IPv6', async () => {
  const pod = await tcpPod('::1');
  const port = await freePort('::1');
  const { backend } = userspace();
  await backend.sync(cluster([{ name: 'web', ip: '::1', port, endpoints: [pod] }]).snapshot);
  expect(await ask('::1', port)).toBe('::1');
});

test('NodePorts answer on loopback', async () => {
  const pod = await tcpPod('127.0.1.11');
  const port = await freePort(VIP);
  const nodePort = await freePort('127.0.0.1');
  const { backend } = userspace();
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, nodePort, endpoints: [pod] }]).snapshot);
  expect(await ask('127.0.0.1', nodePort)).toBe('127.0.1.11');
});

test('stopping waits for connections within its bound and then resets them', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => socket.pipe(socket));
  const port = await freePort(VIP);
  const { backend } = userspace({ stopGraceMs: 300 });
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  const [brief, long] = [await dial(VIP, port), await dial(VIP, port)];
  for (const socket of [brief, long]) {
    socket.write('x');
    await once(socket, 'data');
  }
  const ended = once(brief, 'end');
  const stopped = backend.stop();
  brief.end('last words');
  await ended;
  const [failed] = await Promise.all([new Promise((done) => long.once('close', done)), stopped]);
  expect(failed).toBe(true);
});

test('stopping goes on waiting as long as connections come to their end, one after the other', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => socket.pipe(socket));
  const port = await freePort(VIP);
  const clock = new FakeClock();
  const { backend } = userspace({ stopGraceMs: 300, clock });
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  const sockets = [await dial(VIP, port), await dial(VIP, port), await dial(VIP, port)];
  for (const socket of sockets) {
    socket.write('x');
    await once(socket, 'data');
  }
  const [first, second, idle] = sockets;
  const stopped = backend.stop();
  const left = (): unknown => (backend.state() as { connections: number }).connections;
  for (const [socket, rest] of [[first, 2] as const, [second, 1] as const]) {
    const ended = socket && once(socket, 'end');
    socket?.end();
    await ended;
    await eventually('a connection less', () => left() === rest);
    await clock.advance(300);
    expect(left()).toBe(rest);
  }
  const failed = new Promise((done) => idle?.once('close', done));
  await clock.advance(300);
  expect(await failed).toBe(true);
  await stopped;
});
