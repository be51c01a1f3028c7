// An upstream server that answers as it is told, over UDP and TCP on one port, and keeps what it was asked.

import { createSocket } from 'node:dgram';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { encodeReply } from '../../src/dns/encode.ts';
import { frame, FrameReader } from '../../src/dns/wire/frame.ts';
import { nameText } from '../../src/dns/wire/name.ts';
import { parseQuery, type Query } from '../../src/dns/wire/query.ts';
import { RCODE } from '../../src/dns/wire/types.ts';
import type { Transport } from '../../src/dns/handler.ts';
import type { UpstreamServer } from '../../src/dns/upstream.ts';
import { parseUpstream } from '../../src/dns/upstream.ts';

export interface UpstreamAsked {
  readonly name: string;
  readonly query: Query;
  readonly transport: Transport;
  readonly fromPort: number;
}

/** The packets to send back, now or later: none for silence. */
export type Behaviour = (asked: UpstreamAsked) => readonly Buffer[] | Promise<readonly Buffer[]>;

export interface FakeUpstream {
  readonly server: UpstreamServer;
  readonly asked: readonly UpstreamAsked[];
  close(): Promise<void>;
}

export async function startFakeUpstream(behave: Behaviour): Promise<FakeUpstream> {
  const asked: UpstreamAsked[] = [];
  const answer = async (packet: Buffer, transport: Transport, fromPort: number): Promise<readonly Buffer[]> => {
    const query = parseQuery(packet);
    if (query.kind !== 'query') return [];
    const one = { name: nameText(query.key), query, transport, fromPort };
    asked.push(one);
    return behave(one);
  };
  let closed: Promise<void> | undefined;
  const sockets = new Set<Socket>();
  const tcp = createServer((socket) => {
    sockets.add(socket);
    const frames = new FrameReader();
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      for (const packet of frames.push(chunk))
        void answer(packet, 'tcp', socket.remotePort ?? 0).then((replies) => {
          for (const reply of replies) if (socket.writable) socket.write(frame(reply));
        });
    });
  });
  await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve));
  const { port } = tcp.address() as AddressInfo;
  const udp = createSocket('udp4');
  udp.on('message', (packet, from) => {
    void answer(packet, 'udp', from.port).then((replies) => {
      for (const reply of replies) if (!closed) udp.send(reply, from.port, from.address);
    });
  });
  await new Promise<void>((resolve) => udp.bind(port, '127.0.0.1', resolve));
  const server = parseUpstream(`127.0.0.1:${port}`);
  if (!server) throw new Error('no port');
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await Promise.all([
      new Promise<void>((resolve) => tcp.close(() => resolve())),
      new Promise<void>((resolve) => udp.close(() => resolve())),
    ]);
  };
  return { server, asked, close: () => (closed ??= close()) };
}

/** One that keeps its answers, NOERROR without records, to itself until it is released. */
export async function startHeldUpstream(): Promise<FakeUpstream & { readonly release: () => void }> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const upstream = await startFakeUpstream(async ({ query }) => {
    await released;
    return [encodeReply(query, { kind: 'code', rcode: RCODE.NOERROR }, 512, () => 0)];
  });
  return { ...upstream, release };
}
