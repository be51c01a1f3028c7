// One TCP connection of a client (RFC 7766): any number of queries in any order of answers, with bounds on how many
// wait, on silence, and on what a client does not read.

import type { Socket } from 'node:net';
import type { Clock } from '../system/clock.ts';
import type { Timeouts } from './block.ts';
import { untilQuiet } from './quiet.ts';
import type { Answered } from './server.ts';
import { FrameReader, frame } from './wire/frame.ts';

export interface ConnectionOptions {
  readonly receive: (packet: Buffer) => Answered | Promise<Answered>;
  readonly clock: Pick<Clock, 'monotonic' | 'sleep'>;
  readonly idleMs: number;
  /** What goes before that. */
  readonly timeouts?: Timeouts | undefined;
  readonly onClose: () => void;
}

export interface Connection {
  /** Takes what the client has sent until now, and ends once that is answered; resolves then. */
  drain(): Promise<void>;
  destroy(): void;
}

/** Queries of one connection that may wait for upstream servers; more are left unread until some are answered. */
const MOST_WAITING = 64;
/** A client that says nothing for so long when the server goes has nothing under way. */
const QUIET_MS = 100;

export function serveConnection(socket: Socket, options: ConnectionOptions): Connection {
  const { timeouts = {} } = options;
  const { idleMs = options.idleMs, maxQueries = Infinity } = timeouts;
  const { readMs = idleMs, writeMs = idleMs } = timeouts;
  const frames = new FrameReader();
  let taken = 0;
  /** Pieces of data, whatever is in them. */
  let heard = 0;
  const queue: Buffer[] = [];
  let waiting = 0;
  let ended = false;
  /** When the unfinished message began: trickling bytes must not hold a connection open (slow clients on purpose). */
  let partialSince = 0;

  const write = (answered: Answered): void => {
    if (!answered || !socket.writable) return;
    if (Buffer.isBuffer(answered)) socket.write(frame(answered));
    else for (const packet of answered) socket.write(frame(packet));
  };
  const endWhenDone = (): void => {
    if (ended && waiting === 0 && queue.length === 0 && socket.writable) socket.end();
    if (ended && queue.length === 0) socket.resume();
  };
  const answer = (packet: Buffer): void => {
    const answered = options.receive(packet);
    if (!(answered instanceof Promise)) {
      write(answered);
      return;
    }
    waiting++;
    void answered.then((late) => {
      waiting--;
      write(late);
      pump();
    });
  };
  const mayAnswer = (): boolean => waiting < MOST_WAITING && !socket.writableNeedDrain && !socket.destroyed;
  /** Works on what was read as far as the bounds allow; beyond them nothing more is read. */
  const pump = (): void => {
    while (mayAnswer()) {
      const packet = queue.shift();
      if (!packet) break;
      // The last one that it may bring.
      if (++taken >= maxQueries) {
        ended = true;
        queue.length = 0;
      }
      answer(packet);
    }
    socket.setTimeout(socket.writableNeedDrain ? writeMs : idleMs);
    if (queue.length > 0) socket.pause();
    else if (!ended) socket.resume();
    endWhenDone();
  };

  const over = new Promise<void>((resolve) => {
    socket.once('finish', () => resolve());
    socket.once('close', () => resolve());
  });
  let drained: Promise<void> | undefined;
  const drain = async (): Promise<void> => {
    await untilQuiet(() => heard, options.clock, QUIET_MS);
    ended = true;
    pump();
    await over;
  };

  socket.setTimeout(idleMs, () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    heard++;
    // Of a client that has not seen yet that this is over: read, for a reset would take the last answers from it.
    if (ended) return;
    const now = options.clock.monotonic();
    const messages = frames.push(chunk);
    if (messages.length > 0 || partialSince === 0) partialSince = now;
    if (!frames.partial) partialSince = 0;
    else if (now - partialSince > readMs) {
      socket.destroy();
      return;
    }
    if (taken < maxQueries) queue.push(...messages);
    pump();
  });
  socket.on('drain', pump);
  socket.on('end', () => {
    ended = true;
    endWhenDone();
  });
  socket.on('error', () => socket.destroy());
  socket.on('close', options.onClose);
  return {
    drain: () => (drained ??= drain()),
    destroy: () => socket.destroy(),
  };
}
