import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { Tcp } from '../../src/system/tcp.ts';
import { systemTcp } from '../../src/system/tcp.ts';
import { systemClock } from '../../src/system/clock.ts';
import { freePort } from '../support/free-port.ts';
import { ask, cluster, configWith, fakeLog, fakeMetrics, tcpPod, userspace } from './world.ts';
import { createUserspaceBackend } from '../../src/rules/userspace/backend.ts';
import { defaultRulesConfig } from '../../src/rules/config.ts';
import { eventually } from '../support/until.ts';
import { ip } from '../support/values.ts';

const VIP = '127.96.203.1';

test('addresses that are not on this machine are named in one notice with the mend, and the rest works', async () => {
  const pod = await tcpPod('127.0.1.31');
  const port = await freePort(VIP);
  const { backend, log, metrics } = userspace();
  const foreign = Array.from({ length: 7 }, (_, i) => ({
    name: `far-${i}`,
    ip: `198.18.0.${i + 1}`,
    port: 80,
    endpoints: [pod],
  }));
  const web = { name: 'web', ip: VIP, port, endpoints: [pod] };
  const first = cluster([web, ...foreign]);
  expect(await backend.sync(first.snapshot)).toEqual({ kind: 'applied', counts: { opened: 1, unbound: 7 } });
  expect(await ask(VIP, port)).toBe('127.0.1.31');
  expect(log.warnings).toHaveLength(1);
  expect(log.warnings[0]).toContain(
    'cannot bind 7 Service addresses of 198.18.0.0/16 (not on this machine): ' +
      'shop/far-0 TCP 198.18.0.1:80, shop/far-1 TCP 198.18.0.2:80, shop/far-2 TCP 198.18.0.3:80, ' +
      'shop/far-3 TCP 198.18.0.4:80, shop/far-4 TCP 198.18.0.5:80 and 2 more. Mend: --service-cluster-ip-range 127.96.0.0/16',
  );
  expect(metrics.values.get('fairlead_userspace_unbound_addresses')).toBe(7);
  // Unchanged: not said again. Gone: said once.
  const second = cluster([{ ...web, endpoints: [{ ...pod, ip: '127.0.1.31' }] }, ...foreign], first);
  await backend.sync(second.snapshot);
  expect(log.warnings).toHaveLength(1);
  await backend.sync(cluster([web], second).snapshot);
  expect(log.warnings).toHaveLength(1);
  expect(log.notes.at(-1)).toContain('settled');
  expect(backend.state()).toMatchObject({ unbound: [], listeners: [{ address: VIP, servicePort: 'shop/web' }] });
});

test('addresses that are to be caught where there is none to lead them to are named with the mend, and caught when there is', async () => {
  const pod = await tcpPod('127.0.1.31');
  const done = { exitCode: 0, stdout: '', stderr: '', notFound: false, timedOut: false } as const;
  const own = [ip('127.0.0.1'), ip('169.254.0.1')];
  const mine = ip('192.0.2.1');
  const tcp: Tcp = {
    ...systemTcp,
    listen: ({ address }) =>
      Promise.resolve(
        address === mine && own.includes(mine)
          ? { kind: 'listening', listener: { port: 4242, close: () => {} } }
          : { kind: 'failed', code: 'EADDRNOTAVAIL' },
      ),
  };
  const { backend, log } = userspace({
    config: configWith({ catchAddresses: true }),
    exec: { run: () => Promise.resolve(done) },
    addresses: () => [...own],
    tcp,
  });
  await backend.sync(
    cluster(['198.18.0.1', '198.18.0.2'].map((each) => ({ name: `far-${each}`, ip: each, port: 80, endpoints: [pod] })))
      .snapshot,
  );
  expect(log.warnings).toEqual([
    'cannot bind 2 Service addresses (not on this machine): shop/far-198.18.0.1 TCP 198.18.0.1:80, shop/far-198.18.0.2 TCP 198.18.0.2:80. --userspace-catch-addresses leads them to an address of this ' +
      'machine, which has none for IPv4 but loopback and link-local ones. Mend, as root: an interface with an address and ' +
      'a route to the others; for clients of this machine alone `ip route add local 198.18.0.0/16 dev lo`',
  ]);
  own.push(mine);
  await eventually('it is caught', () => log.notes.some((note) => note.includes('settled')));
  expect(backend.state()).toMatchObject({
    unbound: [],
    listeners: [{ address: '198.18.0.1' }, { address: '198.18.0.2' }],
  });
  expect(log.warnings).toHaveLength(1);
});

test('a port that another program has is named, and taken as soon as it is free', async () => {
  const pod = await tcpPod('127.0.1.31');
  const other = createServer();
  await new Promise<void>((done) => other.listen(0, VIP, done));
  const otherUdp = createSocket('udp4');
  await new Promise<void>((done) => otherUdp.bind(0, VIP, done));
  const bound = other.address();
  const port = typeof bound === 'object' && bound ? bound.port : 0;
  const { backend, log } = userspace();
  await backend.sync(
    cluster([
      { name: 'web', ip: VIP, port, endpoints: [pod] },
      { name: 'dns', ip: VIP, port: otherUdp.address().port, protocol: 'UDP', endpoints: [pod] },
    ]).snapshot,
  );
  expect(log.warnings).toHaveLength(1);
  expect(log.warnings[0]).toMatch(
    /cannot bind 2 Service addresses \(another program has the port\): shop\/dns UDP .*, shop\/web TCP .*Mend: stop it/,
  );
  await new Promise<void>((done) => other.close(() => done()));
  await new Promise<void>((done) => otherUdp.close(() => done()));
  await eventually('both are bound', () => JSON.stringify(backend.state()).includes('"unbound":[]'));
  expect(await ask(VIP, port)).toBe('127.0.1.31');
});

test('a Service that is deleted while its port is taken is not tried again', async () => {
  const pod = await tcpPod('127.0.1.31');
  const other = createServer();
  await new Promise<void>((done) => other.listen(0, VIP, done));
  const bound = other.address();
  const port = typeof bound === 'object' && bound ? bound.port : 0;
  const { backend } = userspace();
  const web = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]);
  await backend.sync(web.snapshot);
  await backend.sync(cluster([], web).snapshot);
  await new Promise<void>((done) => other.close(() => done()));
  expect(backend.state()).toMatchObject({ unbound: [], listeners: [] });
  await systemClock.sleep(700);
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('ports under 1024 without the right to them are named with the mend', async () => {
  const tcp: Tcp = { ...systemTcp, listen: () => Promise.resolve({ kind: 'failed', code: 'EACCES' }) };
  const { backend, log } = userspace({ tcp });
  const endpoints = [{ ip: '127.0.1.31', port: 8080 }];
  await backend.sync(cluster([{ name: 'web', ip: VIP, port: 80, endpoints }]).snapshot);
  expect(log.warnings).toEqual([
    'cannot bind 1 Service address (no right to ports under 1024): shop/web TCP 127.96.203.1:80. Mend: ' +
      '`sysctl net.ipv4.ip_unprivileged_port_start=0` as root, the capability CAP_NET_BIND_SERVICE, or Service ports above 1023',
  ]);
});

test('SCTP is named once and left out, the rest works', async () => {
  const pod = await tcpPod('127.0.1.31');
  const port = await freePort(VIP);
  const { backend, log } = userspace();
  const sctp = { name: 'signal', ip: VIP, port, protocol: 'SCTP', endpoints: [pod] } as const;
  const first = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }, sctp]);
  await backend.sync(first.snapshot);
  expect(log.warnings).toEqual([
    'userspace cannot carry SCTP: 1 Service port left out: shop/signal. Mend: --mode nftables, as root',
  ]);
  expect(await ask(VIP, port)).toBe('127.0.1.31');
});

test('a new address of this machine is taken at the next sync', async () => {
  const pod = await tcpPod('127.0.1.31');
  const port = await freePort(VIP);
  let here = false;
  let own = [ip('127.0.0.1')];
  const tcp: Tcp = {
    ...systemTcp,
    listen: (options) =>
      here ? systemTcp.listen(options) : Promise.resolve({ kind: 'failed', code: 'EADDRNOTAVAIL' }),
  };
  const { backend, log } = userspace({ tcp, random: () => 0.99, addresses: () => own });
  const web = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]);
  await backend.sync(web.snapshot);
  expect(log.warnings[0]).toContain('of the loopback range: shop/web');
  here = true;
  own = [...own, ip(VIP)];
  await backend.sync(web.snapshot);
  expect(await ask(VIP, port)).toBe('127.0.1.31');
});

test('cleanup closes what it listens on and says so', async () => {
  const pod = await tcpPod('127.0.1.31');
  const port = await freePort(VIP);
  const backend = createUserspaceBackend({
    config: defaultRulesConfig,
    log: fakeLog(),
    metrics: fakeMetrics(),
    clock: systemClock,
  });
  onTestFinished(() => backend.stop());
  expect(await backend.cleanup()).toEqual({ removed: [], problems: [] });
  const web = cluster([{ name: 'web', ip: VIP, port, endpoints: [pod] }]);
  await backend.sync(web.snapshot);
  expect(await backend.cleanup()).toEqual({ removed: ['1 userspace listeners'], problems: [] });
  await expect(ask(VIP, port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await backend.sync(web.snapshot);
  expect(await ask(VIP, port)).toBe('127.0.1.31');
});
