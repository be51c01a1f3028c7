import { expect, test } from 'vitest';
import { readProxyHeader } from './proxy-protocol.ts';

function binary(command: number, family: number, addresses: Buffer): Buffer {
  const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n\0\0\0\0', 'latin1');
  head[12] = 0x20 | command;
  head[13] = family;
  head.writeUInt16BE(addresses.length, 14);
  return Buffer.concat([head, addresses]);
}

const IPV4 = Buffer.from([203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);

test.each([
  [
    'PROXY TCP4 203.0.113.9 10.0.0.1 12345 443\r\n',
    { remoteAddress: '203.0.113.9', remotePort: 12345, localPort: 443 },
  ],
  ['PROXY TCP6 2001:db8::9 2001:db8::1 1 80\r\n', { remoteAddress: '2001:db8::9', remotePort: 1, localPort: 80 }],
  ['PROXY UNKNOWN\r\n', undefined],
  ['PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n', undefined],
])('%j is read to its last byte', (text, client) => {
  const bytes = Buffer.from(`${text}GET /`);
  expect(readProxyHeader(bytes)).toEqual({ kind: 'header', length: text.length, client });
  for (let length = 0; length < text.length; length++) {
    expect(readProxyHeader(bytes.subarray(0, length))).toEqual({ kind: 'more' });
  }
});

test('version 2: both families, extensions, and a peer that speaks for itself', () => {
  const client = { remoteAddress: '203.0.113.9', remotePort: 12345, localPort: 443 };
  for (const extension of [Buffer.alloc(0), Buffer.from([4, 0, 1, 0])]) {
    const bytes = binary(1, 0x11, Buffer.concat([IPV4, extension]));
    expect(readProxyHeader(Buffer.concat([bytes, Buffer.from('GET')]))).toEqual({
      kind: 'header',
      length: bytes.length,
      client,
    });
    for (let length = 0; length < bytes.length; length++) {
      expect(readProxyHeader(bytes.subarray(0, length))).toEqual({ kind: 'more' });
    }
  }
  const six = Buffer.concat([
    Buffer.from('20010db8000000000000000000000009', 'hex'),
    Buffer.alloc(16),
    Buffer.from([0, 1, 0, 80]),
  ]);
  expect(readProxyHeader(binary(1, 0x21, six))).toMatchObject({
    client: { remoteAddress: '2001:db8::9', localPort: 80 },
  });
  expect(readProxyHeader(binary(0, 0, Buffer.alloc(0)))).toEqual({ kind: 'header', length: 16, client: undefined });
});

test.each([
  ['no header at all', Buffer.from('GET / HTTP/1.1\r\n')],
  ['an address that is none', Buffer.from('PROXY TCP4 1.2.3 10.0.0.1 1 2\r\n')],
  ['an address of the other family', Buffer.from('PROXY TCP4 ::1 ::1 1 2\r\n')],
  ['a port too large', Buffer.from('PROXY TCP4 1.2.3.4 10.0.0.1 1 65536\r\n')],
  ['a bare line feed', Buffer.from('PROXY TCP4 1.2.3.4 10.0.0.1 1 2\n')],
  ['a line without an end', Buffer.from(`PROXY TCP4 ${'1'.repeat(200)}`)],
  ['a datagram', binary(1, 0x12, IPV4)],
  ['addresses cut short', binary(1, 0x11, IPV4.subarray(0, 8))],
  ['another version', Buffer.concat([binary(1, 0x11, IPV4).fill(0x31, 12, 13)])],
  ['a header that is too large', binary(1, 0x11, Buffer.alloc(5000))],
])('%s is refused', (_name, bytes) => {
  expect(readProxyHeader(bytes)).toEqual({ kind: 'bad' });
});
