// The whole plane, asked by dig over real sockets.

import { createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createMetrics } from '../../src/observe/metrics.ts';
import { systemClock } from '../../src/system/clock.ts';
import { DnsListenError } from '../../src/dns/listen-error.ts';
import { startDnsPlane } from '../../src/dns/plane.ts';
import { until } from '../support/until.ts';
import { dig } from './dig.ts';
import { buildSnapshot } from './snapshot-builder.ts';
import { CLUSTER, recordingLog, startWorld, type World } from './world.ts';
import { ip } from '../support/values.ts';

const open: { stop(): Promise<void> }[] = [];

afterEach(async () => {
  for (const one of open.splice(0)) await one.stop();
});

async function world(...args: Parameters<typeof startWorld>): Promise<World> {
  const started = await startWorld(...args);
  open.push(started.plane);
  return started;
}

describe('dig', () => {
  test.each(['+notcp', '+tcp'])('gets addresses, authoritative and without recursion (%s)', async (transport) => {
    const { udp } = await world();
    const reply = await dig(udp, transport, 'web.shop.svc.cluster.local', 'A');
    expect(reply).toMatchObject({
      status: 'NOERROR',
      flags: 'qr aa rd',
      answer: ['web.shop.svc.cluster.local. 5 IN A 10.96.10.1'],
      authority: [],
    });
    expect(reply.text).not.toMatch(/malformed|extra bytes|bad/i);
  });

  test('gets what there is not with the SOA record of the zone', async () => {
    const { udp } = await world();
    const nx = await dig(udp, 'nosuch.shop.svc.cluster.local', 'A');
    expect(nx).toMatchObject({ status: 'NXDOMAIN', answer: [] });
    expect(nx.authority).toEqual([
      expect.stringMatching(
        /^cluster\.local\. 5 IN SOA ns\.dns\.cluster\.local\. hostmaster\.cluster\.local\. [0-9]+ 7200 1800 86400 5$/,
      ),
    ]);
    expect(await dig(udp, 'web.shop.svc.cluster.local', 'AAAA')).toMatchObject({ status: 'NOERROR', answer: [] });
    expect(await dig(udp, 'web.shop.svc.cluster.local', 'ANY', '+notcp')).toMatchObject({
      status: 'NOERROR',
      answer: [],
    });
  });

  test('gets SRV records with their addresses, and PTR records by -x', async () => {
    const { udp } = await world();
    const srv = await dig(udp, '_pg._tcp.db.shop.svc.cluster.local', 'SRV');
    expect([...srv.answer].sort()).toEqual([
      '_pg._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 50 15432 db-0.db.shop.svc.cluster.local.',
      '_pg._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 50 15432 db-1.db.shop.svc.cluster.local.',
    ]);
    expect([...srv.additional].sort()).toEqual([
      'db-0.db.shop.svc.cluster.local. 5 IN A 10.244.2.10',
      'db-1.db.shop.svc.cluster.local. 5 IN A 10.244.2.11',
    ]);
    const ptr = await dig(udp, '-x', '10.96.10.1');
    expect(ptr.answer).toEqual(['1.10.96.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local.']);
  });

  test('gets its EDNS size and DO bit back, and no EDNS without asking', async () => {
    const { udp } = await world();
    expect((await dig(udp, '+bufsize=1400', '+dnssec', 'web.shop.svc.cluster.local')).edns).toBe(
      'version: 0, flags: do; udp: 1400',
    );
    expect((await dig(udp, '+noedns', 'web.shop.svc.cluster.local')).edns).toBeUndefined();
    expect((await dig(udp, '+edns=1', '+noednsnegotiation', 'web.shop.svc.cluster.local')).status).toBe('BADVERS');
    const withOption = await dig(udp, '+ednsopt=65001:00ff', '+subnet=192.0.2.0/24', 'web.shop.svc.cluster.local');
    expect(withOption).toMatchObject({
      status: 'NOERROR',
      edns: expect.stringMatching(/^version: 0, flags:; udp: \d+$/),
    });
  });

  test('gets as many addresses as its size takes, and all of them over TCP', async () => {
    const { udp } = await world();
    const name = 'crowd.shop.svc.cluster.local';
    const cut = await dig(udp, '+ignore', '+noedns', '+notcp', name);
    expect(cut.flags).toBe('qr aa tc rd');
    expect(cut.size).toBeLessThanOrEqual(512);
    expect(cut.answer.length).toBeGreaterThan(20);
    expect(await dig(udp, '+ignore', '+bufsize=4096', name)).toMatchObject({ flags: 'qr aa rd' });
    const whole = await dig(udp, '+noedns', name);
    expect(whole.text).toContain('(TCP)');
    expect(new Set(whole.answer).size).toBe(150);
  });

  test('gets another address first from time to time', async () => {
    const { udp } = await world();
    const first = new Set<string | undefined>();
    for (let i = 0; i < 40 && first.size < 2; i++) first.add((await dig(udp, 'db.shop.svc.cluster.local')).answer[0]);
    expect(first.size).toBe(2);
  });

  test('gets REFUSED for another class and for transfers, NOTIMP for another opcode', async () => {
    const { udp } = await world();
    expect((await dig(udp, 'web.shop.svc.cluster.local', 'CH', 'TXT')).status).toBe('REFUSED');
    expect((await dig(udp, '+opcode=notify', 'cluster.local', 'SOA')).status).toBe('NOTIMP');
    expect((await dig(udp, 'cluster.local', 'AXFR')).text).toContain('Transfer failed');
    expect((await dig(udp, 'www.example.test')).status).toBe('REFUSED');
  });

  test('keeps one TCP connection for many questions', async () => {
    const { udp } = await world();
    const reply = await dig(
      udp,
      '+tcp',
      '+keepopen',
      'web.shop.svc.cluster.local',
      'A',
      '+tcp',
      '+keepopen',
      'db.shop.svc.cluster.local',
      'A',
    );
    expect(reply.text.match(/status: NOERROR/g)).toHaveLength(2);
  });
});

describe('a running plane', () => {
  test('says SERVFAIL for cluster names until it has a Snapshot, and follows those that come', async () => {
    const { log } = recordingLog();
    const plane = await startDnsPlane({
      listen: [{ address: ip('127.0.0.1'), port: 0 }],
      upstream: { kind: 'none' },
      log,
      metrics: createMetrics(),
      clock: systemClock,
    });
    open.push(plane);
    const [at] = plane.addresses;
    if (!at) throw new Error('no address');
    const name = 'web.shop.svc.cluster.local';
    expect(plane.ready).toBe(false);
    expect((await dig(at, name)).status).toBe('SERVFAIL');
    plane.update(buildSnapshot({ ...CLUSTER, revision: 1 }));
    plane.update(
      buildSnapshot({ revision: 2, services: [{ namespace: 'shop', name: 'web', clusterIPs: ['10.96.0.99'] }] }),
    );
    await until(() => plane.ready);
    expect((await dig(at, name)).answer).toEqual([`${name}. 5 IN A 10.96.0.99`]);
    expect(plane.state()).toMatchObject({ zone: 'cluster.local.', revision: 2, services: 1, names: 1, upstreams: [] });
  });

  test('answers on both families and on several addresses', async () => {
    const listen = ['127.0.0.1', '127.0.0.2', '::1'].map((address) => ({ address: ip(address), port: 0 }));
    const { plane } = await world({ listen });
    expect(plane.addresses).toHaveLength(6);
    for (const { address, port, protocol } of plane.addresses) {
      const reply = await dig({ address, port }, protocol === 'tcp' ? '+tcp' : '+notcp', 'web.shop.svc.cluster.local');
      expect(reply.answer).toHaveLength(1);
    }
  });

  test('names the zone’s server by its own addresses', async () => {
    const { udp } = await world();
    const reply = await dig(udp, 'cluster.local', 'NS');
    expect(reply.answer).toEqual(['cluster.local. 5 IN NS ns.dns.cluster.local.']);
    expect(reply.additional).toEqual(['ns.dns.cluster.local. 5 IN A 127.0.0.1']);
  });

  test('counts what it answers', async () => {
    const { udp, metrics } = await world();
    await dig(udp, 'web.shop.svc.cluster.local', 'A');
    await dig(udp, '+tcp', 'nosuch.shop.svc.cluster.local', 'AAAA');
    const text = await metrics.text();
    const server = `server="dns://127.0.0.1:${udp.port}",zone=".",view=""`;
    expect(text).toContain(`coredns_dns_requests_total{${server},proto="udp",family="1",type="A"} 1`);
    expect(text).toContain(`coredns_dns_requests_total{${server},proto="tcp",family="1",type="AAAA"} 1`);
    expect(text).toContain(`coredns_dns_responses_total{${server},rcode="NXDOMAIN",plugin="kubernetes"} 1`);
    expect(text).toContain(`coredns_dns_request_duration_seconds_count{${server}} 2`);
    expect(text).toContain('coredns_panics_total 0');
    expect(text).toContain('coredns_forward_max_concurrent_rejects_total 0');
  });

  test('stops at once, and gives its port back', async () => {
    const { plane, udp } = await startWorld();
    await plane.stop();
    await plane.stop();
    const again = await world({ listen: [{ address: ip('127.0.0.1'), port: udp.port }] });
    expect((await dig(again.udp, 'web.shop.svc.cluster.local')).status).toBe('NOERROR');
  });
});

describe('an address that cannot be listened on', () => {
  async function failure(address: string, port: number): Promise<DnsListenError> {
    const started = startWorld({ listen: [{ address: ip(address), port }] });
    const error = await started.then(
      (unexpected) => unexpected.plane.stop(),
      (reason: unknown) => reason,
    );
    if (!(error instanceof DnsListenError)) throw new Error('it was listened on');
    return error;
  }

  test('is named with the port that is in use', async () => {
    const { udp } = await world();
    const error = await failure('127.0.0.1', udp.port);
    expect(error.code).toBe('port-in-use');
    expect(error.message).toContain(`127.0.0.1:${udp.port}`);
  });

  test('is named too when only TCP is in use, and UDP is let go', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const bound = taken.address();
    const port = typeof bound === 'object' && bound ? bound.port : 0;
    const error = await failure('127.0.0.1', port);
    expect(error).toMatchObject({ code: 'port-in-use', message: expect.stringContaining('(tcp)') });
    await new Promise((resolve) => taken.close(resolve));
    await world({ listen: [{ address: ip('127.0.0.1'), port }] });
  });

  test('is named when this machine does not have it', async () => {
    expect(await failure('192.0.2.1', 0)).toMatchObject({
      code: 'address-not-here',
      message: expect.stringContaining('192.0.2.1'),
    });
  });

  test('is named with the privilege that a port below 1024 needs', () => {
    const cause = Object.assign(new Error('bind EACCES'), { code: 'EACCES' });
    const error = new DnsListenError({ address: ip('::'), port: 53, protocol: 'udp' }, cause);
    expect(error.code).toBe('no-privilege');
    expect(error.message).toBe(
      'cannot listen for DNS on [::]:53 (udp): ports below 1024 need a privilege; run as root, grant CAP_NET_BIND_SERVICE, or choose a port from 1024 on',
    );
  });

  test('leaves the addresses before it closed', async () => {
    const { udp } = await startWorld().then(async (started) => {
      await started.plane.stop();
      return started;
    });
    const listen = [
      { address: ip('127.0.0.1'), port: udp.port },
      { address: ip('192.0.2.1'), port: 0 },
    ];
    await expect(startWorld({ listen })).rejects.toThrow(DnsListenError);
    await world({ listen: listen.slice(0, 1) });
  });
});
