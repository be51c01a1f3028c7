import { createServer } from 'node:net';
import { connect } from 'node:tls';
import { expect, test } from 'vitest';
import { readClientHello } from './client-hello.ts';

/** What a real client sends first. */
async function helloOf(options: object): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (bytes) => {
        resolve(bytes);
        socket.destroy();
        server.close();
      });
    });
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = address !== null && typeof address === 'object' ? address.port : 0;
      connect({ host: '127.0.0.1', port, ...options }).on('error', () => {});
    });
  });
}

test('the name of a real ClientHello is found, in lower case, and only once all of it is there', async () => {
  for (const options of [{ servername: 'Shop.Example' }, { servername: 'Shop.Example', maxVersion: 'TLSv1.2' }]) {
    const bytes = await helloOf(options);
    expect(readClientHello(bytes)).toEqual({ kind: 'hello', name: 'shop.example' });
    for (let length = 0; length < bytes.length; length++) {
      expect(readClientHello(bytes.subarray(0, length))).toEqual({ kind: 'more' });
    }
  }
  expect(readClientHello(await helloOf({}))).toEqual({ kind: 'hello', name: '' });
});

test('a ClientHello that is spread over several records is read, and rubbish is not', async () => {
  const bytes = await helloOf({ servername: 'a.example' });
  const body = bytes.subarray(5);
  const records = Array.from({ length: Math.ceil(body.length / 50) }, (_, i) => {
    const part = body.subarray(i * 50, i * 50 + 50);
    return Buffer.concat([Buffer.from([22, 3, 1, 0, part.length]), part]);
  });
  expect(readClientHello(Buffer.concat(records))).toEqual({ kind: 'hello', name: 'a.example' });
  expect(readClientHello(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toEqual({ kind: 'unreadable' });
  for (let at = 5; at < bytes.length; at++) {
    const broken = Buffer.from(bytes);
    broken[at] = 0xff;
    expect(['hello', 'unreadable', 'more']).toContain(readClientHello(broken).kind);
  }
  const endless = Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xff]), Buffer.alloc(20_000)]);
  expect(readClientHello(endless).kind).not.toBe('more');
});
