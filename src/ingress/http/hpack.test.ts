import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FieldBlock, HpackDecoder, type HeaderField } from './hpack.ts';

type Fields = readonly (readonly [string, string])[];

function reader(): (hex: string | Buffer, maxFields?: number, maxBytes?: number) => Fields | string {
  const decoder = new HpackDecoder();
  return (block, maxFields = 100, maxBytes = 10_000) => {
    const bytes = typeof block === 'string' ? Buffer.from(block.replaceAll(' ', ''), 'hex') : block;
    const fields: HeaderField[] = [];
    const read = decoder.read(bytes, 0, bytes.length, fields, maxFields, maxBytes);
    return read === 'read' ? fields.map(({ name, value }): [string, string] => [name, value]) : read;
  };
}

const FIRST: Fields = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'www.example.com'],
];

// RFC 7541 appendix C.3 and C.4.
test.each([
  [
    'without Huffman',
    [
      '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
      '8286 84be 5808 6e6f 2d63 6163 6865',
      '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
    ],
  ],
  [
    'with Huffman',
    [
      '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
      '8286 84be 5886 a8eb 1064 9cbf',
      '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
    ],
  ],
])('the requests of the RFC are read %s, one after the other', (_how, [first = '', second = '', third = '']) => {
  const read = reader();
  expect(read(first)).toEqual(FIRST);
  expect(read(second)).toEqual([...FIRST, ['cache-control', 'no-cache']]);
  expect(read(third)).toEqual([
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/index.html'],
    [':authority', 'www.example.com'],
    ['custom-key', 'custom-value'],
  ]);
});

test('what is written is read again, names in lower case', () => {
  const text = fc.string({
    unit: fc.integer({ min: 0x21, max: 0xff }).map((code) => String.fromCharCode(code)),
    maxLength: 300,
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(text, text), { maxLength: 20 }),
      fc.integer({ min: 100, max: 599 }),
      (fields, status) => {
        const block = new FieldBlock();
        block.status(status);
        for (const [name, value] of fields) block.field(name, value);
        const copy = new FieldBlock();
        for (const [name, value] of fields) {
          const source = Buffer.from(`${name}${value}`, 'latin1');
          copy.fieldOf(source, 0, name.length, name.length, source.length);
        }
        const lower = (name: string): string => name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
        const read = reader();
        expect(read(block.bytes.subarray(0, block.length), 100, 1e6)).toEqual([[':status', String(status)], ...fields]);
        expect(read(copy.bytes.subarray(0, copy.length), 100, 1e6)).toEqual(
          fields.map(([name, value]) => [lower(name), value]),
        );
      },
    ),
  );
});

test('lines of HTTP/1.1 become fields', () => {
  const block = new FieldBlock();
  block.lines('Content-Type: text/html; charset=utf-8\r\nX-A:b:c\r\n\r\nno field\r\n');
  expect(reader()(block.bytes.subarray(0, block.length))).toEqual([
    ['content-type', 'text/html; charset=utf-8'],
    ['x-a', 'b:c'],
  ]);
});

test.each([
  ['index 0', '80'],
  ['an index that is not in the table', 'be'],
  ['a name index that is not in the table', '7f00 0161'],
  ['an integer without an end', 'ffff ffff ffff ff'],
  ['an integer that ends early', 'ff'],
  ['a text that ends early', '0005 6162'],
  ['a field without a value', '0001 61'],
  ['a table larger than it may be', '3fe2 1f'],
  ['a table size behind a field', '8220'],
  ['Huffman with the end of the string in it', '0001 6184 ffff ffff'],
  ['Huffman with more than seven bits of padding', '0001 6182 1fff'],
  ['Huffman with padding of zeros', '0001 6181 18'],
])('%s is refused', (_what, hex) => {
  expect(reader()(hex)).toBe('bad');
});

test('the table holds what it may, and the oldest goes first', () => {
  const read = reader();
  const insert = (name: string, value: string): Buffer => {
    const block = new FieldBlock();
    block.field(name, value);
    block.bytes[0] = 0x40;
    return block.bytes.subarray(0, block.length);
  };
  // Each is 32 + 1 + 1,000 bytes of the 4,096.
  for (const name of ['a', 'b', 'c', 'd']) read(insert(name, name.repeat(1000)));
  expect(read('be')).toEqual([['d', 'd'.repeat(1000)]]);
  expect(read('c0')).toEqual([['b', 'b'.repeat(1000)]]);
  expect(read('c1')).toBe('bad');
  // A field that is larger than the table empties it, and is read all the same.
  expect(read(insert('e', 'e'.repeat(5000)))).toEqual([['e', 'e'.repeat(5000)]]);
  expect(read('be')).toBe('bad');
  // The client makes it smaller.
  read(insert('f', 'f'));
  expect(read('20')).toEqual([]);
  expect(read('be')).toBe('bad');
});

test('more than a request may have is read to its end, so that the next block is understood', () => {
  const read = reader();
  const fields = new FieldBlock();
  for (let i = 0; i < 20; i++) fields.field(`x-${i}`, 'y');
  const block = Buffer.concat([fields.bytes.subarray(0, fields.length), Buffer.from('4001610162', 'hex')]);
  expect(read(block, 10)).toBe('too-large');
  expect(read('be')).toEqual([['a', 'b']]);
  expect(read(block, 100, 200)).toBe('too-large');
});
