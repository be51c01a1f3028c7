// What userspace refuses before it harms: more than it can hold, and what would go round for ever.

import { once } from 'node:events';
import { expect, test } from 'vitest';
import { createMetrics } from '../../src/observe/metrics.ts';
import type { UserspaceConfig } from '../../src/rules/config.ts';
import { freePort } from '../support/free-port.ts';
import { ask, cluster, configWith, dial, tcpPod, userspace } from './world.ts';
import { eventually } from '../support/until.ts';

const VIP = '127.96.205.1';
const OTHER = '127.96.205.2';

function limited(limits: Partial<UserspaceConfig>) {
  const metrics = createMetrics();
  const config = configWith(limits);
  return { ...userspace({ config, metrics }), metrics };
}

test('one connection too many is reset at once, told once and counted; when some end there is room again', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => socket.write('hello'));
  const port = await freePort(VIP);
  const { backend, log, metrics } = limited({ maxConnections: 2 });
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  const first = await dial(VIP, port);
  await dial(VIP, port);
  await eventually('both have reached the Pod', () => pod.seen() === 2);
  for (let i = 0; i < 3; i++) await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(pod.seen()).toBe(2);
  expect(log.warnings).toEqual([expect.stringContaining('2 TCP connections are carried')]);
  expect(await metrics.text()).toContain(
    'fairlead_userspace_service_refused_total{namespace="shop",service="web",port="",protocol="TCP",family="IPv4",reason="connections"} 3',
  );
  first.resetAndDestroy();
  await eventually('one more is taken', () => {
    void dial(VIP, port).catch(() => undefined);
    return pod.seen() > 2;
  });
  expect(log.notes).toContain('new connections are taken again');
});

test('more connections than files may be open for are not taken on, whatever is asked for, and the start says so', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => socket.write('hello'));
  const port = await freePort(VIP);
  const config = configWith({ maxConnections: 5000 });
  // A quarter for the process, a third of the rest for flows, two for each connection.
  const { backend, log } = userspace({ config, openFiles: 12 });
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  expect(log.warnings).toEqual([
    expect.stringMatching(/--userspace-max-connections 5000 .* 12 files .* 3 at most.*Mend: `ulimit -n/),
  ]);
  for (let i = 0; i < 3; i++) await dial(VIP, port);
  await eventually('they have reached the Pod', () => pod.seen() === 3);
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNRESET' });
});

test('while slow readers leave too much in the relays, new connections are reset', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => {
    const piece = Buffer.alloc(1 << 20);
    const more = (): void => {
      while (socket.writable && socket.write(piece));
    };
    socket.on('drain', more);
    more();
  });
  const port = await freePort(VIP);
  const { backend, log } = limited({ maxBufferedBytes: 10_000 });
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]).snapshot);
  const slow = await dial(VIP, port);
  slow.pause();
  let resets = 0;
  await eventually('a new one is reset', () => {
    void ask(VIP, port).catch(() => resets++);
    return resets > 0;
  });
  expect(log.warnings).toEqual([expect.stringContaining('wait in the relays for slow readers')]);
  expect(slow.destroyed).toBe(false);
});

test('an endpoint that is a listener of our own is not used, and named', async () => {
  const pod = await tcpPod('127.0.1.11');
  const [port, otherPort] = [await freePort(VIP), await freePort(OTHER)];
  const { backend, log } = userspace();
  const good = cluster([
    // Itself; and one that leads to a Service which leads back.
    { name: 'self', ip: VIP, port, endpoints: [{ ip: VIP, port }] },
    { name: 'there', ip: OTHER, port: otherPort, endpoints: [{ ip: VIP, port }, pod] },
  ]);
  await backend.sync(good.snapshot);
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNRESET' });
  for (let i = 0; i < 4; i++) expect(await ask(OTHER, otherPort)).toBe('127.0.1.11');
  expect(log.warnings).toEqual([expect.stringMatching(/2 endpoints not used.*shop\/self .*shop\/there .*Mend/)]);
  expect(backend.state()).toMatchObject({
    connections: 0,
    loops: [{ servicePort: 'shop/self' }, { servicePort: 'shop/there' }],
  });
  const mended = cluster([{ name: 'self', ip: VIP, port, endpoints: [pod] }], good);
  await backend.sync(mended.snapshot);
  expect(await ask(VIP, port)).toBe('127.0.1.11');
  expect(backend.state()).toMatchObject({ loops: [] });
});

test('connections and bytes are counted for each Service port, those that go on included', async () => {
  const pod = await tcpPod('127.0.1.11', (socket) => socket.pipe(socket));
  const port = await freePort(VIP);
  const { backend, metrics } = limited({});
  const web = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]);
  await backend.sync(web.snapshot);
  await ask(VIP, port, '12345');
  const open = await dial(VIP, port);
  open.write('678');
  await once(open, 'data');
  const of = async (name: string, more = ''): Promise<number> => {
    const line = `fairlead_userspace_service_${name}{namespace="shop",service="web",port="",protocol="TCP",family="IPv4"${more}} `;
    const text = await metrics.text();
    return Number(
      text
        .split('\n')
        .find((each) => each.startsWith(line))
        ?.slice(line.length),
    );
  };
  expect(await of('connections_total')).toBe(2);
  expect(await of('connections')).toBe(1);
  expect(await of('bytes_total', ',direction="received"')).toBe(8);
  expect(await of('bytes_total', ',direction="sent"')).toBe(8);
  await backend.sync(cluster([], web).snapshot);
  expect(await metrics.text()).not.toContain('service="web"');
});
