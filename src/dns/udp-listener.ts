// UDP: one socket.

import { createSocket, type Socket } from 'node:dgram';
import { ipFamily } from '../lib/ip.ts';
import { KeptAnswers } from './kept-answers.ts';
import { DnsListenError } from './listen-error.ts';
import type { ListenerOptions, Side } from './listener.ts';
import { serverLabel } from './metrics.ts';
import { untilQuiet } from './quiet.ts';
import type { Answered } from './server.ts';

/** Answers of one socket that the system has not taken yet; beyond that they are lost, as datagrams are. */
const SEND_QUEUE_BYTES = 1 << 20;
/** For bursts of queries between two turns of the event loop: some 2,700, which the system counts with twice the bytes. What waits behind more has waited too long. */
const RECEIVE_BUFFER_BYTES = 1 << 20;

/** Rejects with a DnsListenError. */
export function bindUdp(options: ListenerOptions): Promise<Side> {
  const { at, shared } = options;
  const family = ipFamily(at.address);
  const socket = createSocket({
    type: family === 4 ? 'udp4' : 'udp6',
    ipv6Only: family === 6,
    reusePort: shared,
    // Addresses only: without this every send goes through the resolver's queue.
    lookup: (host, _options, callback) => callback(null, host, family),
  });
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      void closed(socket);
      reject(new DnsListenError({ ...at, protocol: 'udp' }, error));
    };
    socket.once('error', fail);
    socket.bind({ address: at.address, port: at.port, exclusive: true }, () => {
      socket.off('error', fail);
      // A receive that fails later (an ICMP error for a client that is gone) concerns one datagram.
      socket.on('error', () => {});
      enlargeReceiveBuffer(socket);
      resolve(serve(socket, options));
    });
  });
}

function serve(socket: Socket, { at, server, site, metrics, clock }: ListenerOptions): Side {
  const { port } = socket.address();
  const counters = metrics.forServer(serverLabel({ ...at, port }));
  const kept = new KeptAnswers(counters);
  const here = { transport: 'udp', ipv6: ipFamily(at.address) === 6, address: at.address, port } as const;
  const arrival = { ...here, metrics: counters, site, kept };
  let queued = 0;
  let taken = 0;
  let isOpen = true;
  const send = (answered: Answered, toPort: number, toAddress: string): void => {
    // A transfer is for TCP.
    const packet = Buffer.isBuffer(answered) ? answered : undefined;
    // Nobody listens on port 0, a forged packet may come from it, and Node throws when told to send there.
    if (!packet || toPort === 0) return;
    if (queued > SEND_QUEUE_BYTES) queued = socket.getSendQueueSize();
    if (queued > SEND_QUEUE_BYTES) return;
    // Without a callback: a datagram that cannot be sent is lost, and costs no turn of the event loop.
    socket.send(packet, toPort, toAddress);
    queued = socket.getSendQueueSize();
    kept.copies = queued > 0;
  };
  socket.on('message', (packet, from) => {
    taken++;
    const answer = server.receive(packet, arrival, from);
    if (!(answer instanceof Promise)) send(answer, from.port, from.address);
    else void answer.then((late) => isOpen && send(late, from.port, from.address));
  });
  return {
    port,
    connections: 0,
    settle: () => kept.settle(),
    secure: () => {},
    drain: async () => {
      await untilQuiet(() => taken, clock);
      socket.removeAllListeners('message');
    },
    close: async () => {
      isOpen = false;
      await closed(socket);
      kept.settle();
    },
  };
}

function enlargeReceiveBuffer(socket: Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  } catch {
    // The system's own size does as well, for smaller bursts.
  }
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    try {
      socket.close(() => resolve());
    } catch {
      // Closed already.
      resolve();
    }
  });
}
