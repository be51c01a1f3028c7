import { createSocket } from 'node:dgram';
import { afterEach, expect, test } from 'vitest';
import { DnsListenError } from '../../src/dns/listen-error.ts';
import type { DnsPlane, DnsPlaneOptions } from '../../src/dns/plane.ts';
import { RCODE } from '../../src/dns/wire/types.ts';
import { startThread, type WorkerThread } from '../../src/system/worker-thread.ts';
import { until } from '../support/until.ts';
import { ask, askOften } from './ask.ts';
import { dig } from './dig.ts';
import { buildSnapshot } from './snapshot-builder.ts';
import { CLUSTER, startWorld, type World } from './world.ts';
import { ip } from '../support/values.ts';

const worlds: DnsPlane[] = [];
afterEach(async () => {
  await Promise.all(worlds.splice(0).map((plane) => plane.stop()));
});

async function world(options: Partial<DnsPlaneOptions> = {}): Promise<World> {
  const started = await startWorld({ workers: 2, ...options });
  worlds.push(started.plane);
  return started;
}

test('two workers answer at one address, over UDP and TCP, and count together', async () => {
  const { udp, metrics, plane } = await world();
  expect(await askOften(udp, 'web.shop.svc.cluster.local')).toEqual(new Set([RCODE.NOERROR]));
  for (let i = 0; i < 4; i++) expect((await dig(udp, '+tcp', 'web.shop.svc.cluster.local')).status).toBe('NOERROR');
  const text = await metrics.text();
  const count = (proto: string): unknown =>
    new RegExp(`^coredns_dns_requests_total\\{.*proto="${proto}".*type="A"\\} (\\d+)$`, 'm').exec(text)?.[1];
  expect(count('udp')).toBe('40');
  expect(count('tcp')).toBe('4');
  expect(text.match(/# TYPE coredns_dns_requests_total counter/g)).toHaveLength(1);
  expect(plane.state()).toMatchObject({ workers: 2, ready: true, names: expect.any(Number) });
});

test('a name that is new is answered by every worker as soon as the cluster is said to have it', async () => {
  const { udp, plane } = await world();
  expect(await askOften(udp, 'new.shop.svc.cluster.local')).toEqual(new Set([RCODE.NXDOMAIN]));
  const services = [...(CLUSTER.services ?? []), { namespace: 'shop', name: 'new', clusterIPs: ['10.96.10.9'] }];
  plane.update(buildSnapshot({ ...CLUSTER, revision: 2, services }));
  await until(async () => {
    const told = await askOften(udp, 'new.shop.svc.cluster.local');
    return told.size === 1 && told.has(RCODE.NOERROR);
  });
  plane.update(buildSnapshot({ ...CLUSTER, revision: 3 }));
  await until(async () => {
    const told = await askOften(udp, 'new.shop.svc.cluster.local');
    return told.size === 1 && told.has(RCODE.NXDOMAIN);
  });
});

test('a worker that dies is replaced while the others answer, and knows every name from its first answer on', async () => {
  const threads: WorkerThread[] = [];
  const { udp, plane, lines } = await world({
    startThread: (options) => {
      const thread = startThread(options);
      threads.push(thread);
      return thread;
    },
  });
  expect(threads).toHaveLength(2);
  await threads[0]?.terminate();
  // What was on its way to the socket that is gone may be lost; nothing that is asked from now on is.
  const codes = new Set<number | 'lost'>();
  const asking = (async () => {
    while (threads.length < 3 || codes.size === 0)
      for (const code of await askOften(udp, 'web.shop.svc.cluster.local')) codes.add(code);
  })();
  await until(() => threads.length === 3);
  await asking;
  for (let i = 0; i < 5; i++) for (const code of await askOften(udp, 'web.shop.svc.cluster.local')) codes.add(code);
  expect(codes).toEqual(new Set([RCODE.NOERROR]));
  expect(lines.join('')).toContain('a DNS worker thread has ended and is replaced');
  await threads[1]?.terminate();
  await until(() => threads.length === 4);
  // Both of the first are gone: what answers are the new ones, with all that the cluster has.
  await until(async () => (await ask(udp, 'web.shop.svc.cluster.local')) === RCODE.NOERROR);
  expect(plane.ready).toBe(true);
  plane.update(buildSnapshot({ ...CLUSTER, revision: 2, services: [] }));
  await until(async () => {
    const told = await askOften(udp, 'web.shop.svc.cluster.local');
    return told.size === 1 && told.has(RCODE.NXDOMAIN);
  });
});

test('what a worker counted before it died stays counted', async () => {
  const threads: WorkerThread[] = [];
  const { udp, metrics } = await world({
    startThread: (options) => {
      const thread = startThread(options);
      threads.push(thread);
      return thread;
    },
  });
  await askOften(udp, 'web.shop.svc.cluster.local');
  const counted = async (): Promise<number> =>
    Number(/^coredns_dns_requests_total\{.*type="A"\} (\d+)$/m.exec(await metrics.text())?.[1]);
  expect(await counted()).toBe(40);
  await threads[0]?.terminate();
  await until(() => threads.length === 3);
  expect(await counted()).toBe(40);
});

test('an address that another program has is refused, though threads share theirs', async () => {
  const socket = createSocket({ type: 'udp4', reusePort: true });
  await new Promise<void>((resolve) => socket.bind({ address: '127.0.0.1', port: 0 }, resolve));
  try {
    const listen = [{ address: ip('127.0.0.1'), port: socket.address().port }];
    await expect(startWorld({ workers: 2, listen })).rejects.toThrow(DnsListenError);
    await expect(startWorld({ workers: 2, listen })).rejects.toThrow(/another program uses that port/);
  } finally {
    socket.close();
  }
});
