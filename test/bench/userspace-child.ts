// The two ends between which the relays stand: `serve HOST PORT`, `connect HOST PORT SECONDS CLIENTS`, `fetch HOST PORT SECONDS CLIENTS`.
// The clients print what they have done as JSON.

import { connect, createServer, type Socket } from 'node:net';

const PIECE = Buffer.alloc(64 * 1024);

const [what, host = '', port = '', seconds = '1', clients = '1'] = process.argv.slice(2);
if (what === 'serve') serve();
else await load(what === 'fetch' ? fetchOnce : connectOnce);

/** A client says `c`: one byte and an end. It says `f`: bytes, until it has gone. */
function serve(): void {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (data) => {
      if (data[0] === 0x63) {
        socket.end('k');
        return;
      }
      const more = (): void => {
        while (socket.writable && socket.write(PIECE));
      };
      socket.on('drain', more);
      more();
    });
  });
  server.listen(Number(port), host, 1024, () => process.stdout.write('ready\n'));
}

interface Done {
  connections: number;
  failures: number;
  bytes: number;
}

async function load(one: (done: Done, end: number) => Promise<void>): Promise<void> {
  const done: Done = { connections: 0, failures: 0, bytes: 0 };
  const start = performance.now();
  const end = start + Number(seconds) * 1000;
  await Promise.all(
    Array.from({ length: Number(clients) }, async () => {
      while (performance.now() < end) await one(done, end);
    }),
  );
  process.stdout.write(JSON.stringify({ ...done, seconds: (performance.now() - start) / 1000 }));
}

function connectOnce(done: Done): Promise<void> {
  return talk('c', (_socket, data) => void (done.bytes += data.length)).then(
    () => void done.connections++,
    () => void done.failures++,
  );
}

function fetchOnce(done: Done, end: number): Promise<void> {
  return talk('f', (socket, data) => {
    done.bytes += data.length;
    if (performance.now() > end) socket.destroy();
  }).then(
    () => void done.connections++,
    () => void done.failures++,
  );
}

function talk(word: string, onData: (socket: Socket, data: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port) }, () => socket.write(word));
    socket.on('data', (data) => onData(socket, data));
    socket.on('error', reject);
    socket.on('close', () => resolve());
  });
}
