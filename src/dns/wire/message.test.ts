import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeReply } from '../encode.ts';
import { cutTo, isWhole, parseMessage } from './message.ts';
import { parseName, type DnsName } from './name.ts';
import { encodeQuery, parseQuery } from './query.ts';
import { RR } from './types.ts';

const NAME = parseName('www.example.test') as DnsName;

/** With so many addresses, and an SOA record behind them. */
function message(addresses: number): Buffer {
  const query = parseQuery(encodeQuery({ id: 1, flags: 0, name: NAME, type: RR.A }));
  if (query.kind !== 'query') throw new Error('no query');
  const answer = Array.from({ length: addresses }, (_, i) => ({
    owner: undefined,
    type: RR.A,
    ttl: 5,
    data: `\x0a\x00\x00${String.fromCharCode(i)}`,
  }));
  const authority = [{ owner: NAME, type: RR.NS, ttl: 5, data: NAME }];
  const reply = { kind: 'message', rcode: 0, flags: 0, answer, authority, additional: [] } as const;
  return encodeReply(query, reply, 65_535, () => 0);
}

test('a message that is cut keeps as many whole records as fit, and says that it is cut', () => {
  fc.assert(
    fc.property(fc.nat(40), fc.integer({ min: 34, max: 800 }), (addresses, room) => {
      const whole = message(addresses);
      const cut = cutTo(whole, room);
      expect(cut.length).toBeLessThanOrEqual(room);
      const read = parseMessage(cut);
      const fit = Math.min(addresses, Math.floor((room - 34) / 16));
      expect(read).toMatchObject({ truncated: true, question: { name: NAME } });
      expect(read?.answer).toEqual(parseMessage(whole)?.answer.slice(0, fit));
      expect(read?.authority).toHaveLength(whole.length <= room ? 1 : 0);
    }),
  );
});

test('a message that breaks off anywhere is not whole, and what is left of it can be read', () => {
  const whole = message(3);
  expect(isWhole(whole)).toBe(true);
  for (let length = 34; length < whole.length; length++) {
    const part = whole.subarray(0, length);
    expect(isWhole(part)).toBe(false);
    expect(parseMessage(cutTo(part, 65_535))?.answer).toHaveLength(Math.min(3, Math.floor((length - 34) / 16)));
  }
});

test('bytes at random behind a header do no harm', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 12, maxLength: 200 }), (bytes) => {
      const packet = Buffer.from(bytes);
      expect(isWhole(cutTo(packet, 100)) || packet.readUInt16BE(4) > 0).toBe(true);
    }),
  );
});
