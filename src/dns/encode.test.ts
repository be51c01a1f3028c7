import * as fc from 'fast-check';
import { Packet } from 'dns2';
import { describe, expect, test } from 'vitest';
import { encodeReply } from './encode.ts';
import { parseMessage } from './wire/message.ts';
import { anyName } from '../../test/dns/any-name.ts';
import { lowerName, parseName, prependLabel, type DnsName } from './wire/name.ts';
import { encodeQuery, parseQuery, type Query } from './wire/query.ts';
import { addressData, soaData, srvData, txtData, type ResourceRecord } from './wire/record.ts';
import { ipFromBytes } from '../lib/ip.ts';
import { addressRecord } from './zone/service.ts';
import { FLAG, RR } from './wire/types.ts';

const origin = parseName('cluster.local') as DnsName;

function query(text: string | DnsName, udpSize?: number): Query {
  const name = text.endsWith('\0') ? (text as DnsName) : (parseName(text) as DnsName);
  const parsed = parseQuery(encodeQuery({ id: 99, flags: FLAG.RD, name, type: RR.A, udpSize }));
  if (parsed.kind !== 'query') throw new Error('no query');
  return parsed;
}

const anyIp4 = fc.uint8Array({ minLength: 4, maxLength: 4 }).map(ipFromBytes);
const anyIp = fc.oneof(anyIp4, fc.uint8Array({ minLength: 16, maxLength: 16 }).map(ipFromBytes));
const uint16 = fc.nat(0xffff);
const uint32 = fc.nat(0x7fffffff);
const someName = fc.oneof(
  anyName,
  fc.constantFrom('web', 'db', 'WEB').map((label) => prependLabel(label, origin) ?? origin),
);
const anyRecord: fc.Arbitrary<ResourceRecord> = fc
  .oneof(
    anyIp.map((ip) => ({ type: ip.includes(':') ? RR.AAAA : RR.A, data: addressData(ip) })),
    fc.record({ type: fc.constantFrom(RR.CNAME, RR.NS, RR.PTR), data: someName }),
    fc
      .tuple(uint16, uint16, uint16, someName)
      .map(([a, b, c, name]) => ({ type: RR.SRV, data: srvData(a, b, c, name) })),
    fc.string({ unit: 'binary-ascii', maxLength: 255 }).map((text) => ({ type: RR.TXT, data: txtData(text) })),
    fc.tuple(someName, someName, uint32).map(([primary, mailbox, serial]) => ({
      type: RR.SOA,
      data: soaData({ primary, mailbox, serial, refresh: 1, retry: 2, expire: 3, minimum: 4 }),
    })),
  )
  .chain((part) =>
    fc.record({
      owner: fc.option(someName, { nil: undefined }),
      ttl: uint32,
      type: fc.constant(part.type),
      data: fc.constant(part.data),
    }),
  );

describe('records', () => {
  test('any records come back from the bytes that they are written as', () => {
    fc.assert(
      fc.property(
        someName,
        fc.array(anyRecord, { maxLength: 12 }),
        fc.array(anyRecord, { maxLength: 4 }),
        (name, answer, additional) => {
          const asked = query(name, 4096);
          const reply = { kind: 'records', answer, additional, origin } as const;
          const message = parseMessage(encodeReply(asked, reply, 65_535, () => 0));
          const owned = (record: ResourceRecord) => ({
            ...record,
            owner: lowerName(record.owner ?? name),
            data: lowerName(record.data as DnsName),
          });
          const read = message?.answer.map((record) => ({
            owner: record.owner,
            ttl: record.ttl,
            type: record.type,
            data: record.data,
          }));
          expect(read?.map(owned)).toEqual(answer.map(owned));
          expect(message?.additional).toHaveLength(additional.length);
          expect(message).toMatchObject({ id: 99, truncated: false, edns: { udpSize: 4096 } });
        },
      ),
    );
  });

  test('an independent decoder reads the same addresses and names', () => {
    const label = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
    const plainName = fc.array(label, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(plainName, plainName, anyIp4, uint16, (asked, target, ip, port) => {
        const targetName = parseName(`${target.join('.')}.cluster.local`) as DnsName;
        const reply = {
          kind: 'records',
          answer: [
            { owner: undefined, type: RR.CNAME, ttl: 5, data: targetName },
            { owner: targetName, type: RR.SRV, ttl: 5, data: srvData(0, 100, port, targetName) },
            { owner: targetName, type: RR.A, ttl: 5, data: addressData(ip) },
          ],
          additional: [],
          origin,
        } as const;
        const packet = encodeReply(query(`${asked.join('.')}.cluster.local`), reply, 512, () => 0);
        const decoded = Packet.parse(packet);
        const text = `${target.join('.')}.cluster.local`;
        expect(decoded.questions[0]?.name).toBe(`${asked.join('.')}.cluster.local`);
        expect(decoded.answers).toMatchObject([
          { domain: text },
          { name: text, target: text, port },
          { name: text, address: ip },
        ]);
      }),
    );
  });

  test('repeated names are written as pointers, but not the target of SRV (RFC 2782)', () => {
    const target = parseName('web.cluster.local') as DnsName;
    const srv = { owner: undefined, type: RR.SRV, ttl: 5, data: srvData(0, 1, 80, target) };
    const a = { owner: target, type: RR.A, ttl: 5, data: '\x01\x02\x03\x04' };
    const packet = encodeReply(
      query('_http._tcp.web.cluster.local'),
      { kind: 'records', answer: [srv], additional: [a], origin },
      512,
      () => 0,
    );
    const question = 12 + '_http._tcp.web.cluster.local'.length + 2 + 4;
    expect(packet.length).toBe(question + (2 + 10 + 6 + target.length) + (2 + 10 + 4));
  });
});

describe('the size limit', () => {
  const body = Array.from({ length: 100 }, (_, i) => addressRecord(ipFromBytes(Uint8Array.of(10, 0, 0, i)), 5)).join(
    '',
  );
  const reply = { kind: 'addresses', body, recordSize: 16 } as const;

  test('is kept by leaving addresses off, with TC set', () => {
    const packet = encodeReply(query('crowd.cluster.local'), reply, 512, () => 0);
    const message = parseMessage(packet);
    expect(packet.length).toBeLessThanOrEqual(512);
    expect(message?.truncated).toBe(true);
    expect(message?.answer.length).toBe(Math.floor((512 - 12 - 21 - 4) / 16));
  });

  test('leaves room for the EDNS record', () => {
    const packet = encodeReply(query('crowd.cluster.local', 600), reply, 600, () => 0);
    expect(packet.length).toBeLessThanOrEqual(600);
    expect(parseMessage(packet)).toMatchObject({ truncated: true, edns: { udpSize: 600 } });
  });

  test('is kept by any records, which stay readable', () => {
    fc.assert(
      fc.property(fc.array(anyRecord, { maxLength: 40 }), fc.integer({ min: 512, max: 1500 }), (answer, limit) => {
        const packet = encodeReply(
          query('x.cluster.local', limit),
          { kind: 'records', answer, additional: answer, origin },
          limit,
          () => 0.5,
        );
        const message = parseMessage(packet);
        expect(packet.length).toBeLessThanOrEqual(limit);
        const all = (message?.answer.length ?? 0) + (message?.additional.length ?? 0) === 2 * answer.length;
        expect(message?.truncated).toBe(!all);
      }),
    );
  });
});

test('addresses take turns in front, none lost', () => {
  const ips = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
  const body = ips.map((ip) => addressRecord(ipFromBytes(Uint8Array.from(ip.split('.'), Number)), 5)).join('');
  const orders = [0, 0.4, 0.99].map((random) => {
    const packet = encodeReply(
      query('x.cluster.local'),
      { kind: 'addresses', body, recordSize: 16 },
      512,
      () => random,
    );
    return parseMessage(packet)?.answer.map((record) => [...Buffer.from(record.data, 'latin1')].join('.'));
  });
  expect(orders.map((order) => order?.[0])).toEqual(ips);
  for (const order of orders) expect(order?.toSorted()).toEqual(ips);
});
