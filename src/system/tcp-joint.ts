// Two TCP sockets joined: what one side says the other hears, with back-pressure, until both directions have ended. An end is passed on as an end
// (RFC 9293 section 3.6: the other direction may go on), a reset as a reset, and neither before what was received ahead of it has been sent on.

import type { Clock, Timer } from './clock.ts';
import { isGone, reset, type TcpSocket } from './tcp.ts';

export interface JointOptions {
  readonly clock: Clock;
  /** Both are closed when nothing has come from either for so long; never unless given. */
  readonly idleMs?: number;
}

/** A reset takes with it what the system has not sent yet: so long after the last byte of an answer it is safe to follow. */
const RESET_AFTER_MS = 100;
/** How long a side that was told the end may go on sending to nobody, before it learns of it by a reset. */
const LINGER_MS = 5_000;
/** A reader that takes nothing of what is left for it in that time gets no more. */
const STUCK_MS = 60_000;
/** Who is held back is not read, so nothing tells that it has gone: so often it is looked at. */
const LOOK_MS = 10_000;

/** One of the two. */
class Side {
  readonly socket: TcpSocket;
  /** The code of the first write that failed. What was received before may still be unread: it is read on, and nothing more is written. */
  broken: string | undefined;
  readonly #clock: Clock;
  #look: Timer | undefined;
  #isGone = false;

  constructor(socket: TcpSocket, clock: Clock) {
    this.socket = socket;
    this.#clock = clock;
    socket.once('close', () => this.#look?.cancel());
  }

  /** The other side takes no more for now. Of who has gone the rest is read, which is what the system has: only so its reset is heard. */
  holdBack(): void {
    if (this.#isGone) return;
    this.socket.pause();
    // Not ended with the pause: a long transfer is held back and let go a thousand times a second.
    this.#look ??= this.#clock.after(LOOK_MS, () => {
      this.#look = undefined;
      if (!this.socket.isPaused()) return;
      this.#isGone = isGone(this.socket);
      if (this.#isGone) this.socket.resume();
      else this.holdBack();
    });
  }
}

export class Joint {
  readonly #client: TcpSocket;
  readonly #options: JointOptions;
  #take: ((bytes: Buffer) => void) | undefined;
  readonly #early: Buffer[] = [];

  /** Errors of both sockets are heard by others. The client's bytes wait until it is joined. */
  constructor(client: TcpSocket, options: JointOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** For `onBytes` of the connection that `join` gets. */
  readonly onBytes = (bytes: Buffer): void => {
    if (this.#take) this.#take(bytes);
    else this.#early.push(Buffer.from(bytes));
  };

  /** From here on both are closed when they are done with; `close` of each tells. */
  join(socket: TcpSocket): void {
    const { clock, idleMs } = this.#options;
    const client = new Side(this.#client, clock);
    const upstream = new Side(socket, clock);
    lead(client, upstream, clock);
    lead(upstream, client, clock);
    this.#take = (bytes) => pass(upstream, client, (to) => writeCopy(to, bytes));
    for (const bytes of this.#early.splice(0)) this.#take(bytes);
    client.socket.on('data', (bytes: Buffer) => pass(client, upstream, (to) => to.write(bytes)));
    // Whoever read the first bytes may have paused it.
    client.socket.resume();
    if (idleMs !== undefined) closeIdle(client.socket, socket, clock, idleMs);
  }
}

function pass(from: Side, { socket, broken }: Side, write: (to: TcpSocket) => boolean): void {
  // Nobody is there to hear it; it is read on for its end.
  if (broken !== undefined || socket.destroyed || socket.writableEnded) return;
  if (!write(socket)) from.holdBack();
}

function lead(from: Side, to: Side, clock: Clock): void {
  const { socket } = from;
  keepReadable(from);
  const ended = (): void => {
    if (from.broken !== undefined) socket.destroy();
    else if (!to.socket.writableEnded) to.socket.end();
  };
  // A client that has said nothing may have ended before there was somebody to tell.
  if (socket.readableEnded) ended();
  else socket.once('end', ended);
  socket.on('drain', () => to.socket.resume());
  const closed = (): void => passOnEnd(from, to, clock);
  if (socket.destroyed) closed();
  else socket.once('close', closed);
}

/**
 * A write to a peer that has reset the connection fails, and Node would close the socket with all that the peer has said before and nobody has
 * read yet: its answer, most often. So the stream learns nothing of the failure, and reading goes on to the end.
 */
function keepReadable(side: Side): void {
  const { socket } = side;
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  type Done = (error?: Error | null) => void;
  const noting =
    (done: Done): Done =>
    (error) => {
      if (error && side.broken === undefined) {
        side.broken = 'code' in error && typeof error.code === 'string' ? error.code : error.message;
        if (socket.readableEnded) socket.destroy();
      }
      done();
    };
  socket._write = (bytes, encoding, done) => {
    if (side.broken === undefined) write(bytes, encoding, noting(done));
    else done();
  };
  if (!writev) return;
  socket._writev = (chunks, done) => {
    if (side.broken === undefined) writev(chunks, noting(done));
    else done();
  };
}

/** `from` is closed. */
function passOnEnd(from: Side, to: Side, clock: Clock): void {
  const { socket, broken } = from;
  if (!socket.readableEnded) {
    // A reset came while the other side was too slow for what had been received.
    for (let rest: unknown; (rest = socket.read()) instanceof Buffer;) {
      const bytes = rest;
      pass(from, to, (other) => other.write(bytes));
    }
  }
  const other = to.socket;
  if (other.destroyed) return;
  // Told by the error: a reset behind an end is EPIPE, one instead of an end ECONNRESET.
  if (socket.readableEnded && (broken === undefined || broken === 'EPIPE')) {
    if (!other.writableEnded) other.end();
    // Else it ends its own direction as it likes, and is heard.
    if (broken !== undefined || !socket.writableFinished) resetAfter(other, clock, LINGER_MS);
  } else if (other.bytesWritten === 0) reset(other);
  else resetAfter(other, clock, RESET_AFTER_MS);
}

/** Resets it `ms` after all has been sent, unless it closes before. What it still says is read, and has nowhere to go. */
function resetAfter(socket: TcpSocket, clock: Clock, ms: number): void {
  let left = -1;
  let still = 0;
  let timer: Timer | undefined;
  const look = (): void => {
    const { writableLength } = socket;
    still = writableLength === left ? still + ms : 0;
    left = writableLength;
    if (still >= (left === 0 ? ms : STUCK_MS)) reset(socket);
    else timer = clock.after(ms, look);
  };
  socket.once('close', () => timer?.cancel());
  socket.resume();
  look();
}

function closeIdle(client: TcpSocket, upstream: TcpSocket, clock: Clock, idleMs: number): void {
  const read = (): number => client.bytesRead + upstream.bytesRead;
  let moved = read();
  const look = (): void => {
    if (read() === moved) {
      upstream.destroy();
      client.destroy();
      return;
    }
    moved = read();
    timer = clock.after(idleMs, look);
  };
  let timer = clock.after(idleMs, look);
  client.once('close', () => timer.cancel());
}

/** Large pieces are copied into buffers that come back when they are sent, so that a long transfer makes no garbage. */
class Rooms {
  readonly size: number;
  readonly #free: Buffer[] = [];

  constructor(size: number) {
    this.size = size;
  }

  write(to: TcpSocket, bytes: Buffer): boolean {
    const room = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.size);
    bytes.copy(room);
    return to.write(room.subarray(0, bytes.length), () => {
      if (this.#free.length < ROOMS_KEPT) this.#free.push(room);
    });
  }
}

const ROOMS_KEPT = 4;
/** Up to this length a buffer of its own costs no more. */
const SMALL = 16 * 1024;
const ROOMS = [new Rooms(64 * 1024), new Rooms(256 * 1024)];

/** `bytes` are good during the call only. */
function writeCopy(to: TcpSocket, bytes: Buffer): boolean {
  const rooms = bytes.length > SMALL ? ROOMS.find(({ size }) => size >= bytes.length) : undefined;
  return rooms ? rooms.write(to, bytes) : to.write(Buffer.from(bytes));
}
