// Ports of the ConfigMaps of `--tcp-services-configmap` and `--udp-services-configmap`, with real sockets on both sides.

import { createSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { IngressPlane } from '../../src/ingress/plane.ts';
import type { Snapshot } from '../../src/model/snapshot.ts';
import { freePort } from '../support/free-port.ts';
import { LOOPBACK, raw, startPlane } from './plane.ts';
import { service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

/** Says its name, then whatever it hears. */
async function startEcho(name: string): Promise<{ readonly address: string; readonly open: () => number }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    socket.write(`${name}|`);
    socket.pipe(socket);
  });
  await listening(server);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${tcpPort(server)}`, open: () => sockets.size };
}

async function listening(server: Server, port = 0): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
}

function tcpPort(server: Server): number {
  const bound = server.address();
  return bound !== null && typeof bound === 'object' ? bound.port : 0;
}

async function startUdpEcho(name: string): Promise<string> {
  const socket = createSocket('udp4');
  socket.on('message', (data, from) => socket.send(`${name}|${data.toString()}`, from.port, from.address));
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  onTestFinished(() => void socket.close());
  return `127.0.0.1:${socket.address().port}`;
}

interface Site {
  readonly plane: IngressPlane;
  /** From now on the ports are these, and the endpoints of the Service those. */
  readonly set: (data: Readonly<Record<string, string>>, endpoints: readonly string[]) => void;
}

async function site(protocol: 'TCP' | 'UDP' = 'TCP', options: Parameters<typeof startPlane>[0] = {}): Promise<Site> {
  const key = 'default/ports';
  const plane = await startPlane({
    ...options,
    streams: {
      tcp: protocol === 'TCP' ? key : undefined,
      udp: protocol === 'UDP' ? key : undefined,
      addresses: [LOOPBACK],
      reserved: new Set([8]),
    },
  });
  let before: Snapshot | undefined;
  return {
    plane,
    set: (data, endpoints) => {
      before = snapshot(
        {
          services: [service({ name: 'db', portNumber: 5432, protocol, endpoints })],
          configMaps: [{ namespace: 'default', name: 'ports', data: new Map(Object.entries(data)) }],
        },
        before,
      );
      plane.update(before);
    },
  };
}

function isOpen(plane: IngressPlane, port: number): boolean {
  const { streams } = plane.state() as {
    readonly streams: readonly { readonly port: number; readonly listening: boolean }[];
  };
  return streams.some((each) => each.port === port && each.listening);
}

test('a TCP port is passed on to the endpoints of its Service in turn, and a change of both ends no connection', async () => {
  const [one, two] = [await startEcho('one'), await startEcho('two')];
  const { plane, set } = await site();
  const [port, other] = [await freePort(), await freePort()];
  set({ [port]: 'default/db:5432' }, [one.address, two.address]);
  await eventually('the port', () => isOpen(plane, port));
  const clients = [await raw(port), await raw(port)];
  const names = await Promise.all(clients.map((client) => client.until(/\|/)));
  expect(names.sort()).toEqual(['one|', 'two|']);

  set({ [other]: 'default/db:5432' }, [two.address]);
  await eventually('the other port', () => isOpen(plane, other));
  await expect(raw(port)).rejects.toThrow(/ECONNREFUSED/);
  expect(await (await raw(other)).until(/\|/)).toBe('two|');
  for (const client of clients) {
    client.send('still there.');
    await client.until(/still there\.$/);
  }
  // The end of one side is passed on, and the rest of the other comes.
  clients[0]?.socket.end('bye');
  expect(await clients[0]?.ended()).toBe('end');
  expect(clients[0]?.text()).toMatch(/bye$/);
});

test('a client sees its connection end when its endpoint breaks off, and one without an endpoint at once', async () => {
  const { plane, set } = await site();
  const port = await freePort();
  set({ [port]: 'default/db:5432' }, []);
  await eventually('the port', () => isOpen(plane, port));
  const early = await raw(port);
  await early.ended();
  expect(early.text()).toBe('');
  const backend = await startEcho('one');
  // The first of the two is not there any more: the next is tried.
  const dead = `127.0.0.1:${await freePort()}`;
  set({ [port]: 'default/db:5432' }, [dead, backend.address]);
  for (let i = 0; i < 3; i++) expect(await (await raw(port)).until(/\|/)).toBe('one|');
});

test('a reset by the endpoint of a TCP port is one for the client, and an answer ahead of it arrives', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write('refused', () => socket.resetAndDestroy()));
  });
  await listening(server);
  onTestFinished(() => void server.close());
  const { plane, set } = await site();
  const port = await freePort();
  set({ [port]: 'default/db:5432' }, [`127.0.0.1:${tcpPort(server)}`]);
  await eventually('the port', () => isOpen(plane, port));
  const client = await raw(port);
  client.send('x');
  expect(await client.ended()).toBe('reset');
  expect(client.text()).toBe('refused');
});

test('the PROXY protocol is read from clients and told to endpoints, and a client without it is let go', async () => {
  const backend = await startEcho('b');
  const { plane, set } = await site();
  const [both, out] = [await freePort(), await freePort()];
  set({ [both]: 'default/db:5432:PROXY:PROXY', [out]: 'default/db:5432::PROXY' }, [backend.address]);
  await eventually('the ports', () => isOpen(plane, both) && isOpen(plane, out));
  const told = await raw(both);
  told.send('PROXY TCP4 192.0.2.1 198.51.100.1 1234 99\r\nfirst');
  expect(await told.until(/first$/)).toBe('b|PROXY TCP4 192.0.2.1 127.0.0.1 1234 99\r\nfirst');
  const plain = await raw(out);
  const own = plain.socket.localPort;
  plain.send('first');
  expect(await plain.until(/first$/)).toBe(`b|PROXY TCP4 127.0.0.1 127.0.0.1 ${own} ${out}\r\nfirst`);
  const without = await raw(both);
  without.send('hello, here I am\r\n');
  await without.ended();
  expect(without.text()).toBe('');
});

test('a UDP port is passed on by flow: the same client has the same endpoint until its answers have come', async () => {
  const endpoints = [await startUdpEcho('one'), await startUdpEcho('two')];
  const { plane, set } = await site('UDP');
  const port = await freePort();
  set({ [port]: 'default/db:5432' }, endpoints);
  await eventually('the port', () => isOpen(plane, port));
  const client = createSocket('udp4');
  onTestFinished(() => void client.close());
  const heard: string[] = [];
  client.on('message', (data) => heard.push(data.toString()));
  for (let i = 0; i < 4; i++) {
    client.send(`${i}`, port, '127.0.0.1');
    await eventually(`answer ${i}`, () => heard.length === i + 1);
  }
  // One answer ends a flow, as `proxy_responses 1` of ingress-nginx does.
  expect(heard.map((text) => text.split('|')[1])).toEqual(['0', '1', '2', '3']);
  expect(new Set(heard.map((text) => text.split('|')[0]))).toEqual(new Set(['one', 'two']));
});

test('proxy-stream-timeout and proxy-stream-responses of the ConfigMap hold', async () => {
  const endpoints = [await startUdpEcho('one'), await startUdpEcho('two')];
  const port = await freePort();
  const plane = await startPlane({
    configMap: 'default/settings',
    streams: { tcp: undefined, udp: 'default/ports', addresses: [LOOPBACK], reserved: new Set() },
  });
  plane.update(
    snapshot({
      services: [service({ name: 'db', portNumber: 5432, protocol: 'UDP', endpoints })],
      configMaps: [
        { namespace: 'default', name: 'ports', data: new Map([[String(port), 'default/db:5432']]) },
        {
          namespace: 'default',
          name: 'settings',
          data: new Map([
            ['proxy-stream-timeout', '50ms'],
            ['proxy-stream-responses', '0'],
          ]),
        },
      ],
    }),
  );
  await eventually('the port', () => isOpen(plane, port));
  const client = createSocket('udp4');
  onTestFinished(() => void client.close());
  const heard: string[] = [];
  client.on('message', (data) => heard.push(data.toString()));
  client.send('a', port, '127.0.0.1');
  await eventually('an answer', () => heard.length === 1);
  const open = () => (plane.state() as { readonly streams: readonly { readonly open: number }[] }).streams[0]?.open;
  await eventually('the end of the flow', () => open() === 0);
  expect(heard).toEqual([expect.stringMatching(/^(one|two)\|a$/)]);
});

test('a port that another program has is opened once it is free, and stop() ends what is open', async () => {
  const backend = await startEcho('one');
  const { plane, set } = await site('TCP', { graceMs: 50 });
  const blocker = createServer();
  await listening(blocker);
  const port = tcpPort(blocker);
  set({ [port]: 'default/db:5432' }, [backend.address]);
  // It has been tried by then, or will be: in both cases it is not open.
  expect(isOpen(plane, port)).toBe(false);
  await new Promise((resolve) => blocker.close(resolve));
  await eventually('the port', () => isOpen(plane, port));
  const client = await raw(port);
  await client.until(/one\|/);
  await plane.stop();
  await client.ended();
  await eventually('the end at the endpoint', () => backend.open() === 0);
  await expect(raw(port)).rejects.toThrow(/ECONNREFUSED/);
});
