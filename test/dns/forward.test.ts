// Names outside the cluster: what upstream servers are asked, and what clients get of their replies.

import { afterEach, describe, expect, test, vi } from 'vitest';
import { encodeReply } from '../../src/dns/encode.ts';
import { RCODE, RR } from '../../src/dns/wire/types.ts';
import { parseName, type DnsName } from '../../src/dns/wire/name.ts';
import type { ResourceRecord } from '../../src/dns/wire/record.ts';
import type { DnsPlaneOptions } from '../../src/dns/plane.ts';
import { until } from '../support/until.ts';
import { dig } from './dig.ts';
import { startFakeUpstream, type Behaviour, type FakeUpstream, type UpstreamAsked } from './fake-upstream.ts';
import { startWorld, type World } from './world.ts';
import { ip } from '../support/values.ts';

// Some wait for timeouts of seconds, as clients would.
vi.setConfig({ testTimeout: 30_000 });

const WWW = parseName('www.example.test') as DnsName;
const address = (last: number, owner?: DnsName): ResourceRecord => ({
  owner,
  type: RR.A,
  ttl: 300,
  data: `\xc0\x00\x02${String.fromCharCode(last)}`,
});

const open: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function upstream(behave: Behaviour): Promise<FakeUpstream> {
  const started = await startFakeUpstream(behave);
  open.push(() => started.close());
  return started;
}

async function world(upstreams: readonly FakeUpstream[], options: Partial<DnsPlaneOptions> = {}): Promise<World> {
  const servers = upstreams.map((one) => one.server);
  const started = await startWorld({ upstream: { kind: 'servers', servers }, ...options });
  open.push(() => started.plane.stop());
  return started;
}

function reply(asked: UpstreamAsked, ...answer: readonly ResourceRecord[]): Buffer {
  const limit = asked.transport === 'udp' ? (asked.query.edns?.udpSize ?? 512) : 65_535;
  return encodeReply(asked.query, { kind: 'records', answer, additional: [], origin: '\0' as DnsName }, limit, () => 0);
}

function code(asked: UpstreamAsked, rcode: number): Buffer {
  return encodeReply(asked.query, { kind: 'code', rcode }, 512, () => 0);
}

const answering: Behaviour = (asked) => [asked.query.type === RR.A ? reply(asked, address(53)) : reply(asked)];
const silent: Behaviour = () => [];

describe('a name outside the cluster', () => {
  test('is answered as upstream answers, TTL and codes included', async () => {
    const up = await upstream((asked) => {
      if (asked.name === 'refused.example.test.') return [code(asked, RCODE.REFUSED)];
      if (asked.name === 'fail.example.test.') return [code(asked, RCODE.SERVFAIL)];
      if (asked.name === 'gone.example.test.') return [code(asked, RCODE.NXDOMAIN)];
      return [reply(asked, address(53))];
    });
    const { udp } = await world([up]);
    expect((await dig(udp, 'WWW.example.test')).answer).toEqual(['WWW.example.test. 300 IN A 192.0.2.53']);
    expect((await dig(udp, 'refused.example.test')).status).toBe('REFUSED');
    expect((await dig(udp, 'fail.example.test')).status).toBe('SERVFAIL');
    expect((await dig(udp, 'gone.example.test')).status).toBe('NXDOMAIN');
  });

  test('is asked from another port with another id each time', async () => {
    const up = await upstream(answering);
    const { udp } = await world([up]);
    for (let i = 0; i < 6; i++) await dig(udp, 'www.example.test');
    expect(new Set(up.asked.map((asked) => asked.query.id)).size).toBeGreaterThan(4);
    expect(new Set(up.asked.map((asked) => asked.fromPort)).size).toBeGreaterThan(4);
  });

  test('is asked with the client’s EDNS size, and without EDNS when the client has none', async () => {
    const up = await upstream(answering);
    const { udp } = await world([up]);
    await dig(udp, '+bufsize=1400', '+dnssec', 'www.example.test');
    await dig(udp, '+noedns', 'www.example.test');
    expect(up.asked.map((asked) => asked.query.edns)).toEqual([
      { udpSize: 1400, dnssecOk: true, version: 0, wantsNsid: false },
      undefined,
    ]);
  });

  test('is asked over TCP when the client uses TCP, and TC from upstream is passed on', async () => {
    const up = await upstream((asked) => [reply(asked, ...Array.from({ length: 60 }, (_, i) => address(i)))]);
    const { udp } = await world([up]);
    const cut = await dig(udp, '+ignore', '+noedns', 'multi.example.test');
    expect(cut.flags).toContain('tc');
    const whole = await dig(udp, '+noedns', 'multi.example.test');
    expect(whole.answer).toHaveLength(60);
    expect(up.asked.map((asked) => asked.transport)).toEqual(['udp', 'udp', 'tcp']);
  });

  test('whose reply is larger than the client takes comes back with what fits, and TC', async () => {
    const up = await upstream((asked) => [
      encodeReply(
        asked.query,
        {
          kind: 'records',
          answer: Array.from({ length: 60 }, (_, i) => address(i)),
          additional: [],
          origin: '\0' as DnsName,
        },
        4096,
        () => 0,
      ),
    ]);
    const { udp } = await world([up]);
    const cut = await dig(udp, '+ignore', '+noedns', 'multi.example.test');
    expect(cut.flags).toContain('tc');
    // 512 bytes, less 36 of header and question, 16 each.
    expect(cut.answer).toHaveLength(29);
    expect((await dig(udp, '+ignore', '+bufsize=600', 'multi.example.test')).answer).toHaveLength(34);
    expect((await dig(udp, '+bufsize=1232', 'multi.example.test')).answer).toHaveLength(60);
  });

  test('whose reply breaks off is told to be asked for by TCP, and is a failure there', async () => {
    const up = await upstream((asked) => {
      const whole = reply(asked, address(1), address(2), address(3));
      return asked.name.startsWith('half') || asked.transport === 'udp' ? [whole.subarray(0, -5)] : [whole];
    });
    const { udp } = await world([up]);
    expect(await dig(udp, '+ignore', '+noedns', 'cut.example.test')).toMatchObject({
      flags: expect.stringContaining('tc'),
      status: 'NOERROR',
      answer: [],
    });
    expect((await dig(udp, 'cut.example.test')).answer).toHaveLength(3);
    expect((await dig(udp, '+tcp', 'half.example.test')).status).toBe('SERVFAIL');
  });

  test('is not answered by what does not match the question, however early it comes', async () => {
    const up = await upstream((asked) => {
      const forged = { ...asked.query, id: asked.query.id ^ 1 };
      const other = { ...asked.query, name: parseName('www.example.evil') as DnsName };
      const records = { kind: 'records', answer: [address(66)], additional: [], origin: '\0' as DnsName } as const;
      const wrong = [forged, other].map((query) => encodeReply(query, records, 512, () => 0));
      return [...wrong, Buffer.from('junk'), Buffer.alloc(0), reply(asked, address(53))];
    });
    const { udp } = await world([up]);
    expect((await dig(udp, 'www.example.test')).answer).toEqual(['www.example.test. 300 IN A 192.0.2.53']);
  });

  test('is asked of another server when one does not answer, which is then asked last', async () => {
    const dead = await upstream(silent);
    const alive = await upstream(answering);
    const { udp, lines } = await world([dead, alive], { random: () => 0.5 });
    // Beside them it is asked for the root, to see whether it is back.
    const questions = (): number => dead.asked.filter(({ name }) => name !== '.').length;
    expect((await dig(udp, 'www.example.test')).answer).toHaveLength(1);
    expect(questions()).toBe(1);
    expect((await dig(udp, 'www.example.test')).answer).toHaveLength(1);
    expect(questions()).toBe(1);
    expect(
      lines.filter((line) => line.includes('does not answer') && line.includes(String(dead.server.port))),
    ).toHaveLength(1);
  });

  test('goes at once to the next server when one refuses the connection', async () => {
    const gone = await startFakeUpstream(silent);
    await gone.close();
    const alive = await upstream(answering);
    const { udp } = await world([gone, alive], { random: () => 0.5 });
    const start = performance.now();
    expect((await dig(udp, 'www.example.test')).answer).toHaveLength(1);
    expect((await dig(udp, '+tcp', 'www.example.test')).answer).toHaveLength(1);
    // Waiting for the one that is gone would take two seconds, twice.
    expect(performance.now() - start).toBeLessThan(3500);
  });

  test('is SERVFAIL when no server answers', async () => {
    const dead = await upstream(silent);
    const { udp } = await world([dead]);
    const reply = await dig(udp, '+time=6', 'www.example.test');
    expect(reply.status).toBe('SERVFAIL');
    expect(dead.asked.filter((asked) => asked.name !== '.')).toHaveLength(2);
  });

  test('is REFUSED while too many wait, and cluster names are not', async () => {
    const dead = await upstream(silent);
    const { udp, metrics } = await world([dead], { maxConcurrent: 1 });
    const waiting = dig(udp, '+time=6', 'slow.example.test');
    await until(() => dead.asked.length > 0);
    expect((await dig(udp, 'www.example.test')).status).toBe('REFUSED');
    expect((await dig(udp, 'web.shop.svc.cluster.local')).status).toBe('NOERROR');
    expect(await metrics.text()).toContain('coredns_forward_max_concurrent_rejects_total 1');
    await waiting;
  });
});

test('an address that is not of the cluster is asked upstream by its reverse name, one that is, is not', async () => {
  const up = await upstream((asked) => [reply(asked, { owner: undefined, type: RR.PTR, ttl: 300, data: WWW })]);
  const { udp } = await world([up]);
  expect((await dig(udp, '-x', '203.0.113.7')).answer).toEqual([
    '7.113.0.203.in-addr.arpa. 300 IN PTR www.example.test.',
  ]);
  expect((await dig(udp, '-x', '10.96.10.1')).answer[0]).toContain('web.shop.svc.cluster.local.');
  expect(up.asked).toHaveLength(1);
});

describe('an ExternalName', () => {
  const name = 'ext.shop.svc.cluster.local';
  const cname = `${name}. 5 IN CNAME www.example.test.`;

  test('brings its target’s records along, and follows upstream’s aliases', async () => {
    const real = parseName('real.example.test') as DnsName;
    const stranger = parseName('stranger.example.test') as DnsName;
    const up = await upstream((asked) => [
      reply(asked, { owner: undefined, type: RR.CNAME, ttl: 60, data: real }, address(53, real), address(66, stranger)),
    ]);
    const { udp } = await world([up]);
    const answer = await dig(udp, name);
    expect(answer.flags).toBe('qr aa rd');
    expect(answer.answer).toEqual([
      cname,
      'www.example.test. 60 IN CNAME real.example.test.',
      'real.example.test. 300 IN A 192.0.2.53',
    ]);
  });

  test('whose target is too large for UDP is looked up over TCP', async () => {
    const many = Array.from({ length: 200 }, (_, i) => address(i));
    const up = await upstream((asked) => [reply(asked, ...many)]);
    const { udp } = await world([up]);
    expect((await dig(udp, '+tcp', name)).answer).toHaveLength(201);
    expect(up.asked.map((asked) => asked.transport)).toEqual(['udp', 'tcp']);
  });

  test.each([
    ['does not exist', (asked: UpstreamAsked) => [code(asked, RCODE.NXDOMAIN)]],
    ['cannot be found out', (asked: UpstreamAsked) => [code(asked, RCODE.SERVFAIL)]],
    ['has no such records', (asked: UpstreamAsked) => [reply(asked)]],
  ])('whose target %s is its alias alone', async (_what, behave) => {
    const { udp } = await world([await upstream(behave)]);
    expect(await dig(udp, name)).toMatchObject({ status: 'NOERROR', answer: [cname] });
  });

  test('asked for its alias is not looked up', async () => {
    const up = await upstream(answering);
    const { udp } = await world([up]);
    expect((await dig(udp, name, 'CNAME')).answer).toEqual([cname]);
    expect(up.asked).toHaveLength(0);
  });
});

describe('resolv.conf', () => {
  const conf = (text: string): Partial<DnsPlaneOptions> => ({
    upstream: { kind: 'resolv-conf', path: '/etc/resolv.conf' },
    files: {
      readText: () => Promise.resolve(text),
      list: () => Promise.resolve(undefined),
      watch: () => ({ close: () => {} }),
    },
  });

  test('gives the upstream servers', async () => {
    const { plane } = await startWorld(conf('nameserver 192.0.2.1\nnameserver fd00::53\n'));
    open.push(() => plane.stop());
    expect(plane.state()).toMatchObject({ upstreams: ['192.0.2.1:53', '[fd00::53]:53'] });
  });

  test('that names this server itself is reported once, and cluster names are answered', async () => {
    const up = await upstream(answering);
    const free = await startFakeUpstream(silent);
    await free.close();
    const { udp, lines, plane } = await startWorld({
      listen: [{ address: ip('127.0.0.1'), port: free.server.port }],
      upstream: { kind: 'servers', servers: [free.server] },
    });
    open.push(() => plane.stop());
    expect(lines.filter((line) => line.includes('is this server itself'))).toHaveLength(1);
    expect((await dig(udp, 'web.shop.svc.cluster.local')).status).toBe('NOERROR');
    expect((await dig(udp, 'www.example.test')).status).toBe('REFUSED');
    expect(up.asked).toHaveLength(0);
  });

  test('that cannot be read is reported, and names outside are refused', async () => {
    const { udp, lines, plane } = await startWorld({
      upstream: { kind: 'resolv-conf', path: '/nonexistent/resolv.conf' },
    });
    open.push(() => plane.stop());
    expect(lines.join('')).toMatch(/cannot be read.*\/nonexistent\/resolv\.conf/);
    expect((await dig(udp, 'www.example.test')).status).toBe('REFUSED');
  });
});

test('stopping answers what waits with SERVFAIL within its bound', async () => {
  const dead = await upstream(silent);
  const started = await startWorld({ upstream: { kind: 'servers', servers: [dead.server] } });
  const waiting = dig(started.udp, '+time=6', 'www.example.test');
  await until(() => dead.asked.length > 0);
  const start = performance.now();
  await started.plane.stop();
  expect(performance.now() - start).toBeLessThan(3000);
  expect((await waiting).status).toBe('SERVFAIL');
});

test('replies of upstream that are malformed past their question end as any failure does', async () => {
  let seed = 1;
  const byte = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 24;
  const up = await upstream((asked) => {
    const packet = Buffer.concat([code(asked, RCODE.NOERROR), Buffer.from(Array.from({ length: 40 }, byte))]);
    packet.writeUInt16BE(byte(), 6);
    packet.writeUInt16BE(byte(), 10);
    return [packet];
  });
  const { udp, metrics } = await world([up]);
  for (let i = 0; i < 20; i++)
    expect((await dig(udp, '+noedns', 'ext.shop.svc.cluster.local')).answer).toEqual([
      'ext.shop.svc.cluster.local. 5 IN CNAME www.example.test.',
    ]);
  await dig(udp, '+noedns', 'www.example.test');
  expect(await metrics.text()).toContain('coredns_panics_total 0');
  expect((await dig(udp, 'web.shop.svc.cluster.local')).status).toBe('NOERROR');
});
