// Small servers for the Pods of this folder, so that the example answers without a cluster. A Pod gets a server for each
// container port, of the kind that its container is named for; Pods that come and go while it runs are followed.

import { createSocket } from 'node:dgram';
import { readdirSync, readFileSync, watch } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';

interface Backend {
  readonly pod: string;
  readonly kind: string;
  readonly ip: string;
  readonly port: number;
}

type Stop = () => void;
type Report = (message: string) => void;

/** Starts the backends of the folder and follows it. Returns what stops them all. */
export function runBackends(dir: string, report: Report): Stop {
  const running = new Map<string, Stop>();
  const follow = (): void => {
    const wanted = new Map(readBackends(dir).map((backend) => [JSON.stringify(backend), backend]));
    for (const [key, stop] of running) {
      if (wanted.has(key)) continue;
      stop();
      running.delete(key);
    }
    for (const [key, backend] of wanted) {
      if (!running.has(key)) running.set(key, startBackend(backend, report));
    }
  };
  follow();
  let timer: NodeJS.Timeout | undefined;
  const watcher = watch(dir, () => {
    clearTimeout(timer);
    timer = setTimeout(follow, 20);
  });
  return () => {
    clearTimeout(timer);
    watcher.close();
    for (const stop of running.values()) stop();
  };
}

function readBackends(dir: string): readonly Backend[] {
  return readdirSync(dir)
    .filter((name) => /\.ya?ml$/.test(name))
    .flatMap((name) => parseAllDocuments(readFileSync(join(dir, name), 'utf8')))
    .filter((document) => document.errors.length === 0 && document.get('kind') === 'Pod')
    .flatMap((document): Backend[] => {
      const pod = String(document.getIn(['metadata', 'name']));
      const ip = String(document.getIn(['status', 'podIP']));
      const kind = String(document.getIn(['spec', 'containers', 0, 'name']));
      const port = Number(document.getIn(['spec', 'containers', 0, 'ports', 0, 'containerPort']));
      return Number.isInteger(port) ? [{ pod, kind, ip, port }] : [];
    });
}

function startBackend(backend: Backend, report: Report): Stop {
  const failed = (error: Error): void => report(`no demo backend for Pod ${backend.pod}: ${error.message}`);
  switch (backend.kind) {
    case 'http':
      return startHttp(backend, failed);
    case 'redis':
      return startRedis(backend, failed);
    case 'echo':
      return startEcho(backend, failed);
    default:
      report(`no demo backend is named "${backend.kind}" (Pod ${backend.pod}); there are: http, redis, echo`);
      return () => {};
  }
}

function startHttp({ pod, ip, port }: Backend, failed: (error: Error) => void): Stop {
  const server = createHttpServer((request, response) => {
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
    response.end(`Server name: ${pod}\nServer address: ${ip}:${port}\nURI: ${request.url}\n`);
  });
  server.on('error', failed).listen(port, ip);
  return () => server.close();
}

function startRedis({ ip, port }: Backend, failed: (error: Error) => void): Stop {
  const values = new Map<string, string>();
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
    let rest = '';
    socket.on('data', (data) => {
      const lines = (rest + data.toString('utf8')).split(/\r?\n/);
      rest = (lines.pop() ?? '').slice(-1024);
      for (const line of lines) socket.write(redisAnswer(line.trim().split(/\s+/), values));
    });
  });
  server.on('error', failed).listen(port, ip);
  return () => {
    server.close();
    for (const socket of sockets) socket.end();
  };
}

/** Inline commands only. */
function redisAnswer(words: readonly string[], values: Map<string, string>): string {
  const [command = '', key = '', value = ''] = words;
  switch (command.toUpperCase()) {
    case '':
      return '';
    case 'PING':
      return '+PONG\r\n';
    case 'SET':
      if (values.size < 1000) values.set(key, value);
      return '+OK\r\n';
    case 'GET': {
      const found = values.get(key);
      return found === undefined ? '$-1\r\n' : `$${Buffer.byteLength(found)}\r\n${found}\r\n`;
    }
    default:
      return `-ERR unknown command '${command.slice(0, 40)}'\r\n`;
  }
}

function startEcho({ pod, ip, port }: Backend, failed: (error: Error) => void): Stop {
  const socket = createSocket(ip.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (data, peer) => socket.send(`${pod}: ${data.toString('utf8')}`, peer.port, peer.address));
  socket.on('error', failed).bind(port, ip);
  return () => {
    socket.close();
  };
}
