// What the user may choose in userspace mode: how connections to removed endpoints end, and what endpoints learn of clients.

import { once } from 'node:events';
import { expect, test } from 'vitest';
import { defaultRulesConfig } from '../../src/rules/config.ts';
import { freePort } from '../support/free-port.ts';
import { ask, cluster, configWith, dial, tcpPod, userspace } from './world.ts';

const VIP = '127.96.206.1';

test('connections to an endpoint that no slice names any more are reset where that is asked for; others go on', async () => {
  const echo = await tcpPod('127.0.1.11', (socket) => socket.pipe(socket));
  const other = await tcpPod('127.0.1.12', (socket) => socket.pipe(socket));
  const port = await freePort(VIP);
  const { backend } = userspace({ config: { ...defaultRulesConfig, resetTcpToDeletedEndpoints: true } });
  const both = cluster([{ name: 'web', ip: VIP, port, endpoints: [echo, other] }]);
  await backend.sync(both.snapshot);
  const [first, second] = [await dial(VIP, port), await dial(VIP, port)];
  for (const socket of [first, second]) {
    socket.write('x');
    await once(socket, 'data');
  }
  // Not ready is not gone.
  const unready = cluster(
    [
      {
        name: 'web',
        ip: VIP,
        port,
        endpoints: [
          { ...echo, ready: false },
          { ...other, ready: true },
        ],
      },
    ],
    both,
  );
  await backend.sync(unready.snapshot);
  first.write('y');
  expect(String((await once(first, 'data'))[0])).toBe('y');
  const errors: unknown[] = [];
  for (const socket of [first, second]) socket.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code));
  const gone = new Promise((resolve) => first.once('close', resolve));
  await backend.sync(cluster([{ name: 'web', ip: VIP, port, endpoints: [other] }], unready).snapshot);
  await gone;
  expect(errors).toEqual(['ECONNRESET']);
  second.write('z');
  expect(String((await once(second, 'data'))[0])).toBe('z');
});

test('a Service that is to be told of clients and does not exist is named, until it does', async () => {
  const pod = await tcpPod('127.0.1.11');
  const port = await freePort(VIP);
  const proxyProtocolTo = ['shop/web', 'shop/wbe'];
  const { backend, log } = userspace({
    config: configWith({ proxyProtocolTo }),
  });
  const web = { name: 'web', ip: VIP, port, endpoints: [pod] };
  const first = cluster([web]);
  await backend.sync(first.snapshot);
  expect(log.warnings).toEqual([expect.stringMatching(/--userspace-proxy-protocol-to .*: shop\/wbe\. Mend/)]);
  await backend.sync(cluster([web, { ...web, name: 'wbe', port: await freePort(VIP) }], first).snapshot);
  expect(log.notes).toContainEqual(expect.stringContaining('settled'));
});

test('an endpoint learns the client’s address where its Service is named, before the first byte', async () => {
  const heard: Buffer[] = [];
  const pod = await tcpPod('127.0.1.11', (socket) => {
    const parts: Buffer[] = [];
    socket.on('data', (data) => parts.push(data));
    socket.on('end', () => {
      heard.push(Buffer.concat(parts));
      socket.end('ok');
    });
  });
  const [port, plain] = [await freePort(VIP), await freePort(VIP)];
  const proxyProtocolTo = ['shop/told'];
  const { backend } = userspace({
    config: configWith({ proxyProtocolTo }),
  });
  const services = [
    { name: 'told', ip: VIP, port, endpoints: [pod] },
    { name: 'untold', ip: VIP, port: plain, endpoints: [pod] },
  ];
  await backend.sync(cluster(services).snapshot);
  expect(await ask(VIP, port, 'question', '127.0.9.9')).toBe('ok');
  expect(await ask(VIP, plain, 'question', '127.0.9.9')).toBe('ok');
  const [told, untold] = heard;
  expect(untold?.toString()).toBe('question');
  // Signature, PROXY over TCP and IPv4, the client, the Service, their ports.
  expect(told?.subarray(0, 16).toString('hex')).toBe('0d0a0d0a000d0a515549540a2111000c');
  expect([...(told?.subarray(16, 24) ?? [])]).toEqual([127, 0, 9, 9, 127, 96, 206, 1]);
  expect(told?.readUInt16BE(26)).toBe(port);
  expect(told?.subarray(28).toString()).toBe('question');
});
