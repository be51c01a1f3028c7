import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { systemTcp } from '../../src/system/tcp.ts';
import { until } from '../support/until.ts';

/** A port at which somebody listens who is stopped, and behind whom the queue is full: whoever connects waits for an answer. */
async function silentPort(): Promise<number> {
  const source = `const s = require('node:net').createServer();
    s.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => process.stdout.write(String(s.address().port)));`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const port = await new Promise<number>((resolve) => child.stdout.once('data', (data) => resolve(Number(data))));
  child.kill('SIGSTOP');
  const waiting: Socket[] = [];
  onTestFinished(() => waiting.forEach((socket) => socket.destroy()));
  await until(async () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    waiting.push(socket);
    return await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(false));
      // A turn more, for a connection that stands already.
      setTimeout(() => setImmediate(() => setImmediate(() => resolve(true))), 300);
    });
  });
  return port;
}

test('an attempt that is given up leaves no socket behind', async () => {
  const port = await silentPort();
  const sockets = (): number =>
    process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap' || name === 'TCPConnectWrap').length;
  const before = sockets();
  const giveUp = new AbortController();
  const attempt = systemTcp.connect({ address: '127.0.0.1', port, signal: giveUp.signal });
  await until(() => sockets() > before);
  giveUp.abort();
  expect(await attempt).toEqual({ kind: 'failed', code: 'ABORTED' });
  await until(() => sockets() <= before);
});
