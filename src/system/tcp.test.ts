import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { reset, systemTcp, type TcpSocket } from './tcp.ts';
import { ip } from '../../test/support/values.ts';

/** Gives what the client saw of a connection, once both sides are closed. */
async function seen(serve: (socket: TcpSocket) => void): Promise<string> {
  const address = ip('127.0.0.1');
  let closed: () => void;
  const serverClosed = new Promise<void>((resolve) => (closed = resolve));
  const onConnection = (socket: TcpSocket): void => {
    socket.on('error', () => {});
    socket.once('close', () => closed());
    serve(socket);
  };
  const result = await systemTcp.listen({ address, port: 0, onConnection });
  if (result.kind === 'failed') throw new Error(result.code);
  const client = connect(result.listener.port, '127.0.0.1');
  client.resume();
  const ended = await new Promise<string>((resolve) => {
    client.once('error', (error) => resolve('code' in error ? String(error.code) : error.message));
    client.once('end', () => resolve('end'));
  });
  client.destroy();
  await serverClosed;
  result.listener.close();
  return ended;
}

test('a socket that is reset is closed, whatever state it is in', async () => {
  expect(await seen((socket) => reset(socket))).toBe('ECONNRESET');
  // Our own end is on its way out at that moment.
  expect(['end', 'ECONNRESET']).toContain(
    await seen((socket) => {
      socket.end('x');
      reset(socket);
    }),
  );
  expect(['end', 'ECONNRESET']).toContain(
    await seen((socket) => {
      socket.end();
      process.nextTick(() => {
        reset(socket);
        reset(socket);
      });
    }),
  );
});
