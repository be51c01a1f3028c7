import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeRefusal } from '../encode.ts';
import { parseMessage } from './message.ts';
import { parseName, type DnsName } from './name.ts';
import { encodeQuery, parseQuery } from './query.ts';
import { FLAG, RCODE, RR } from './types.ts';

const name = parseName('Web.shop.svc.cluster.local') as DnsName;
const plain = encodeQuery({ id: 7, flags: FLAG.RD, name, type: RR.A });
const withEdns = encodeQuery({ id: 7, flags: FLAG.RD, name, type: RR.A, udpSize: 1232, dnssecOk: true });

function changed(packet: Buffer, change: (packet: Buffer) => void): Buffer {
  const copy = Buffer.from(packet);
  change(copy);
  return copy;
}

describe('a query', () => {
  test('is read with its name as asked and in lower case', () => {
    expect(parseQuery(plain)).toEqual({
      kind: 'query',
      id: 7,
      flags: FLAG.RD,
      name,
      key: parseName('web.shop.svc.cluster.local'),
      type: RR.A,
      klass: 1,
      edns: undefined,
    });
  });

  test('is read with its EDNS record', () => {
    expect(parseQuery(withEdns)).toMatchObject({ edns: { udpSize: 1232, dnssecOk: true, version: 0 } });
  });

  test('may have bytes after its end', () => {
    expect(parseQuery(Buffer.concat([plain, Buffer.from('more')]))).toMatchObject({ kind: 'query' });
  });

  test('may carry one SOA record in Authority, as IXFR does', () => {
    const soa = Buffer.from(`\0\0\x06\0\x01\0\0\0\0\0\x02\0\0`, 'latin1');
    const ixfr = changed(Buffer.concat([plain, soa]), (packet) => packet.writeUInt16BE(1, 8));
    expect(parseQuery(ixfr)).toMatchObject({ kind: 'query' });
  });
});

describe('what is no query', () => {
  test.each([
    ['less than a header', plain.subarray(0, 11)],
    ['nothing', Buffer.alloc(0)],
    ['a reply', changed(plain, (packet) => packet.writeUInt16BE(FLAG.QR, 2))],
  ])('%s is dropped', (_what, packet) => {
    const refusal = parseQuery(packet);
    expect(refusal.kind).toBe('drop');
    expect(refusal.kind !== 'query' && encodeRefusal(refusal)).toBeUndefined();
  });

  test.each([
    ['no question', changed(plain, (packet) => packet.writeUInt16BE(0, 4)), RCODE.FORMERR],
    ['two questions', changed(plain, (packet) => packet.writeUInt16BE(2, 4)), RCODE.FORMERR],
    ['a question that is cut off', plain.subarray(0, plain.length - 1), RCODE.FORMERR],
    ['a compressed question', changed(plain, (packet) => packet.writeUInt16BE(0xc00c, 12)), RCODE.FORMERR],
    ['a count of records that are not there', changed(plain, (packet) => packet.writeUInt16BE(1, 10)), RCODE.FORMERR],
    ['an absurd count of records', changed(withEdns, (packet) => packet.writeUInt16BE(0xffff, 10)), RCODE.FORMERR],
    [
      'two EDNS records',
      changed(Buffer.concat([withEdns, withEdns.subarray(-11)]), (packet) => packet.writeUInt16BE(2, 10)),
      RCODE.FORMERR,
    ],
    [
      'an EDNS option longer than its record',
      changed(Buffer.concat([withEdns, Buffer.from([0, 10, 0, 9])]), (packet) =>
        packet.writeUInt16BE(4, withEdns.length - 2),
      ),
      RCODE.FORMERR,
    ],
    [
      'an EDNS version that we do not know',
      changed(withEdns, (packet) => (packet[withEdns.length - 5] = 1)),
      RCODE.BADVERS,
    ],
    ['a NOTIFY', changed(plain, (packet) => packet.writeUInt16BE(4 << 11, 2)), RCODE.NOTIMP],
    ['an UPDATE', changed(plain, (packet) => packet.writeUInt16BE(5 << 11, 2)), RCODE.NOTIMP],
  ])('%s is refused with a code', (_what, packet, rcode) => {
    const refusal = parseQuery(packet);
    expect(refusal).toMatchObject({ kind: 'refuse', rcode, id: 7 });
    const reply = refusal.kind === 'query' ? undefined : encodeRefusal(refusal);
    expect(reply && parseMessage(reply)).toMatchObject({ id: 7, rcode, answer: [] });
  });

  test('whatever the bytes, parsing gives a value', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const result = parseQuery(Buffer.from(bytes));
        expect(['query', 'drop', 'refuse']).toContain(result.kind);
      }),
    );
  });
});
