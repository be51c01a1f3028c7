import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { anyName } from '../../../test/dns/any-name.ts';
import {
  labelsOf,
  lowerName,
  nameText,
  originAt,
  parseName,
  prependLabel,
  readName,
  ROOT,
  skipPlainName,
} from './name.ts';
import type { DnsName } from './name.ts';

function named(text: string): DnsName {
  const name = parseName(text);
  if (!name) throw new Error(`no name: ${text}`);
  return name;
}

describe('presentation form', () => {
  test('any name comes back from its text', () => {
    fc.assert(
      fc.property(anyName, (name) => {
        expect(parseName(nameText(name))).toBe(name);
      }),
    );
  });

  test.each([
    ['www.example.test', '\x03www\x07example\x04test\0'],
    ['www.example.test.', '\x03www\x07example\x04test\0'],
    ['.', '\0'],
    ['a\\.b.test', '\x03a.b\x04test\0'],
    ['a\\046b.test', '\x03a.b\x04test\0'],
  ])('reads %s', (text, wire) => {
    expect(parseName(text)).toBe(wire);
  });

  test.each(['', '..', 'a..b', '.a', 'x'.repeat(64), 'abcdefg.'.repeat(32), 'a\\256', 'a\\', 'ü\u0100.test'])(
    'refuses %j',
    (text) => {
      expect(parseName(text)).toBeUndefined();
    },
  );

  test('takes a name of exactly 255 bytes and refuses one of 256', () => {
    const label = 'a'.repeat(61);
    const most = [...Array.from({ length: 4 }, () => label), 'abcde'].join('.');
    expect(parseName(most)).toHaveLength(255);
    expect(parseName(`${most}f`)).toBeUndefined();
  });
});

test('lower case touches ASCII letters only', () => {
  expect(lowerName(named('WeB.SHOP'))).toBe(named('web.shop'));
  expect(lowerName('\x01\xc0\0' as DnsName)).toBe('\x01\xc0\0');
});

describe('the origin of a name', () => {
  const zone = named('cluster.local');

  test('is found at a label boundary', () => {
    expect(originAt(zone, zone)).toBe(0);
    expect(originAt(named('web.cluster.local'), zone)).toBe(4);
    expect(originAt(named('mycluster.local'), zone)).toBe(-1);
    expect(originAt(named('local'), zone)).toBe(-1);
  });

  test('is not found inside a label that looks like it', () => {
    const disguised = prependLabel(`x${zone.slice(0, -1)}`, ROOT);
    expect(disguised && originAt(disguised, zone)).toBe(-1);
  });
});

describe('reading a name from a message', () => {
  test('any uncompressed name is read whole', () => {
    fc.assert(
      fc.property(anyName, fc.nat(30), (name, offset) => {
        const message = Buffer.concat([Buffer.alloc(offset), Buffer.from(name, 'latin1'), Buffer.from([9])]);
        expect(readName(message, offset, message.length)).toEqual({ name, end: offset + name.length });
        expect(skipPlainName(message, offset, message.length)).toBe(offset + name.length);
      }),
    );
  });

  test('pointers are followed backwards', () => {
    const message = Buffer.from('\x07example\x04test\0\x03www\xc0\x00', 'latin1');
    expect(readName(message, 14, message.length)).toEqual({ name: named('www.example.test'), end: 20 });
  });

  test.each([
    ['a pointer to itself', '\xc0\x00', 0],
    ['two pointers to each other', '\xc0\x02\xc0\x00', 2],
    ['a pointer into the name that it stands in', '\x03www\xc0\x00', 0],
    ['a pointer ahead', '\xc0\x04\0\0\x01a\0', 0],
    ['a pointer that is cut off', '\x01a\xc0', 0],
    ['a label that runs out of the message', '\x05ab', 0],
    ['a name without end', '\x01a', 0],
    ['a reserved kind of label', '\x41a\0', 0],
    ['a name past the message', '', 3],
  ])('%s is refused', (_what, bytes, offset) => {
    const message = Buffer.from(bytes, 'latin1');
    expect(readName(message, offset, message.length)).toBeUndefined();
  });

  test('a name of more than 255 bytes is refused, compressed or not', () => {
    const long = Buffer.from(`${`\x3f${'a'.repeat(63)}`.repeat(4)}\0`, 'latin1');
    expect(readName(long, 0, long.length)).toBeUndefined();
    expect(skipPlainName(long, 0, long.length)).toBe(-1);
    const half = `${`\x3f${'a'.repeat(63)}`.repeat(2)}\0`;
    const joined = Buffer.from(`${half}${`\x3f${'b'.repeat(63)}`.repeat(2)}\xc0\x00`, 'latin1');
    expect(readName(joined, half.length, joined.length)).toBeUndefined();
  });

  test('whatever the bytes, reading ends and what it gives is a name', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), (bytes, offset) => {
        const read = readName(Buffer.from(bytes), offset, bytes.length);
        if (!read) return;
        expect(read.name.length).toBeLessThanOrEqual(255);
        expect(labelsOf(read.name).every((label) => label.length > 0 && label.length < 64)).toBe(true);
        expect(read.end).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });
});
