// ExternalName Services: forwarded to by name, and never to this machine.

import { createServer } from 'node:http';
import { networkInterfaces } from 'node:os';
import { expect, onTestFinished, test } from 'vitest';
import { lookupElsewhere } from '../../src/ingress/http/name-lookup.ts';
import { isOfThisMachine } from '../../src/lib/ip.ts';
import { httpPort, portOf, startPlane } from './plane.ts';
import { ask } from './site.ts';
import { ingress, service, snapshot } from './world.ts';
import { ip } from '../support/values.ts';

/** An address of this machine that others have for it. */
const OUTER = Object.values(networkInterfaces())
  .flatMap((list) => list ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address;

async function backend(): Promise<number> {
  const server = createServer((request, response) => response.end(`host ${request.headers.host}`));
  await new Promise<void>((resolve) => server.listen(0, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return portOf(server);
}

async function statusOf(externalName: string, port: number, disableExternalNames = false): Promise<number> {
  const plane = await startPlane({ disableExternalNames });
  const outside = service({ name: 'outside', externalName });
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'a', rules: [{ host: 'a.example', paths: [{ service: 'outside', port }] }] })],
      services: [{ ...outside, record: { ...outside.record, ports: [] } }],
    }),
  );
  return (await ask(httpPort(plane), {})).status;
}

test('a name that leads to another host is forwarded to, on the port of the backend where the Service has none', async () => {
  const port = await backend();
  // Where the machine has no address but its own loopback, nothing can be reached so.
  expect(await statusOf(OUTER ?? '127.0.0.1', port)).toBe(OUTER === undefined ? 503 : 200);
});

test('what leads to this machine, or nowhere, is refused, whatever the name says', async () => {
  const port = await backend();
  for (const name of ['localhost', 'x.localhost', '127.0.0.1', '169.254.169.254', '0.0.0.0']) {
    expect([name, await statusOf(name, port)]).toEqual([name, 503]);
  }
  expect(await statusOf('name.invalid', port)).toBe(502);
  expect(await statusOf(OUTER ?? '127.0.0.1', port, true)).toBe(503);
});

test('a name whose addresses are all of this machine leads nowhere when a connection asks for it', async () => {
  const error = await new Promise<Error | null>((resolve) =>
    lookupElsewhere('localhost', {}, (failure) => resolve(failure)),
  );
  expect(error?.message).toBe('localhost leads to this machine');
});

test.each([
  ['127.0.0.1', true],
  ['::1', true],
  ['::', true],
  ['0.0.0.0', true],
  ['169.254.169.254', true],
  ['fe80::1', true],
  ['ff02::1', true],
  ['224.0.0.1', true],
  ['::ffff:127.0.0.1', true],
  ['64:ff9b::a9fe:a9fe', true],
  ['10.0.0.1', false],
  ['192.0.2.1', false],
  ['2001:db8::1', false],
  ['fd00::1', false],
])('%s is of this machine: %s', (text, expected) => {
  expect(isOfThisMachine(ip(text))).toBe(expected);
});
