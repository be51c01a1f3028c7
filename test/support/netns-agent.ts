// Runs inside a namespace: opens the servers and connections that the test asks for over the IPC channel. A server answers
// each connection or datagram with its name and the peer address that it saw.

import { createSocket } from 'node:dgram';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { Hammer } from './hammer.ts';
import { Talk } from './talk.ts';
import type { AgentReply, AgentRequest, ConnectOptions, Outcome, ServeOptions } from './netns-agent-client.ts';

const hammers = new Map<number, Hammer>();
const talks = new Map<number, Talk>();
const stops = new Map<number, () => void>();

process.on('message', (message) => {
  const request = message as AgentRequest;
  void answer(request).then(
    (reply) => process.send?.(reply),
    (error: unknown) => process.send?.({ id: request.id, kind: 'error', message: String(error) } satisfies AgentReply),
  );
});
process.on('disconnect', () => process.exit(0));

async function answer(request: AgentRequest): Promise<AgentReply> {
  const { id } = request;
  switch (request.kind) {
    case 'serve':
      stops.set(id, await serve(request.options));
      return { id, kind: 'done' };
    case 'stop':
      stops.get(request.server)?.();
      stops.delete(request.server);
      return { id, kind: 'done' };
    case 'connect':
      return { id, kind: 'outcome', outcome: await connect(request.options) };
    case 'hammer':
      hammers.set(id, new Hammer(request.options));
      return { id, kind: 'done' };
    case 'hammered': {
      const hammer = hammers.get(request.hammer);
      if (!hammer) throw new Error('no such hammer');
      hammers.delete(request.hammer);
      return { id, kind: 'hammered', result: await hammer.stop() };
    }
    case 'talk':
      talks.set(id, new Talk(request.options));
      return { id, kind: 'done' };
    case 'talk state':
      return { id, kind: 'talk state', state: talkOf(request.talk).state() };
    case 'talk close':
      talkOf(request.talk).close();
      talks.delete(request.talk);
      return { id, kind: 'done' };
  }
}

function talkOf(id: number): Talk {
  const talk = talks.get(id);
  if (!talk) throw new Error('no such talk');
  return talk;
}

function plain(address: string): string {
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

function serve({ protocol, address, port, name, keeps = false }: ServeOptions): Promise<() => void> {
  return new Promise((resolve, reject) => {
    if (protocol === 'TCP') {
      const open = new Set<Socket>();
      const server = createServer((socket) => {
        open.add(socket);
        socket.on('error', () => undefined);
        socket.once('close', () => open.delete(socket));
        if (keeps) socket.on('data', () => socket.write(`${name}\n`));
        else socket.end(`${name} ${plain(socket.remoteAddress ?? '?')}\n`);
      });
      server.once('error', reject);
      server.listen({ port, host: address ?? '::', backlog: 512 }, () =>
        resolve(() => {
          server.close();
          for (const socket of open) socket.destroy();
        }),
      );
      return;
    }
    // An answer of a socket bound to every address leaves from whatever address the route prefers: one address, please.
    const socket = createSocket({ type: address?.includes(':') === false ? 'udp4' : 'udp6' });
    socket.once('error', reject);
    socket.on('message', (_data, peer) => {
      socket.send(`${name} ${plain(peer.address)}\n`, peer.port, peer.address, () => undefined);
    });
    socket.bind({ port, ...(address === undefined ? {} : { address }) }, () => resolve(() => socket.close()));
  });
}

function connect(options: ConnectOptions): Promise<Outcome> {
  return options.protocol === 'TCP' ? connectTcpOnce(options) : sendUdpOnce(options);
}

function outcomeOf(code: string | undefined): Outcome {
  switch (code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return { kind: 'refused' };
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return { kind: 'unreachable' };
    default:
      throw new Error(`unexpected socket error ${code ?? ''}`);
  }
}

function parse(text: string): Outcome {
  const [by = '', peerSeen = ''] = text.trim().split(' ');
  return { kind: 'answered', by, peerSeen };
}

function connectTcpOnce({ address, port, source, timeoutMs = 10_000 }: ConnectOptions): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host: address, port, ...(source === undefined ? {} : { localAddress: source }) });
    let text = '';
    const timer = setTimeout(() => finish({ kind: 'silence' }), timeoutMs);
    const finish = (outcome: Outcome): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (text += chunk));
    socket.on('end', () => finish(text === '' ? { kind: 'refused' } : parse(text)));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      try {
        finish(outcomeOf(error.code));
      } catch (failure) {
        clearTimeout(timer);
        reject(failure instanceof Error ? failure : new Error(String(failure)));
      }
    });
  });
}

function sendUdpOnce({ address, port, source, sourcePort, timeoutMs = 10_000 }: ConnectOptions): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const timer = setTimeout(() => finish({ kind: 'silence' }), timeoutMs);
    const finish = (outcome: Outcome): void => {
      clearTimeout(timer);
      socket.close();
      resolve(outcome);
    };
    const fail = (error: NodeJS.ErrnoException): void => {
      try {
        finish(outcomeOf(error.code));
      } catch (failure) {
        clearTimeout(timer);
        reject(failure instanceof Error ? failure : new Error(String(failure)));
      }
    };
    socket.on('error', fail);
    socket.on('message', (data) => finish(parse(data.toString())));
    const send = (): void =>
      socket.connect(port, address, (error?: Error) => {
        if (error) fail(error);
        else socket.send('?\n', (failure) => failure && fail(failure));
      });
    if (source === undefined && sourcePort === undefined) send();
    else {
      socket.bind(
        {
          ...(source === undefined ? {} : { address: source }),
          ...(sourcePort === undefined ? {} : { port: sourcePort }),
        },
        send,
      );
    }
  });
}
