// The two ends of the WebSockets of the Ingress benchmark: `ECHO-PORT PROXY-PORT PATH SECONDS CONNECTIONS`. It listens on the one, loads the
// other, and prints what it has measured as JSON. Both ends do the least that RFC 6455 asks for, and share a process: two of them would wait for
// each other's turn on their CPU, and the round trips would be times of the scheduler.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** Messages of a connection that are on the way at once; each is told from the others by its text. */
const IN_FLIGHT = 4;
const TEXTS = Array.from({ length: IN_FLIGHT }, (_, i) => `message ${i} `.padEnd(32, 'x'));

// RFC 6455 section 5.2: FIN and the opcode, the mask bit and a length of up to 125, the masking key of those that a client sends.
const TEXT = 0x81;
const CLOSE = 0x88;
const MASKED = 0x80;
const LONGEST = 125;
const HEAD = 2;
const KEY = 4;
const SENT_BYTES = HEAD + KEY + 32;
const ECHOED_BYTES = HEAD + 32;
/** 1000: the purpose has been fulfilled. */
const DONE = Buffer.from([0x03, 0xe8]);

const END_OF_HEAD = '\r\n\r\n';
const NOTHING: Buffer = Buffer.alloc(0);
const RETRY_MS = 50;
const LAST_ECHOES_MS = 2000;

// The backend.

/** Does not keep the process: the load says how long it lives. */
async function listen(port: number): Promise<void> {
  const server = createServer({ noDelay: true }, (socket) => {
    let rest = NOTHING;
    let upgraded = false;
    socket.unref();
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      let data = joined(rest, chunk);
      if (!upgraded) {
        const end = data.indexOf(END_OF_HEAD);
        rest = data;
        if (end < 0) return;
        socket.write(switching(data.toString('latin1', 0, end)));
        upgraded = true;
        data = data.subarray(end + END_OF_HEAD.length);
      }
      rest = answerFrames(socket, data);
    });
  });
  server.listen(port, '127.0.0.1', 1024);
  await once(server, 'listening');
  server.unref();
}

function switching(head: string): string {
  const key = /^sec-websocket-key: *(\S+)/im.exec(head)?.[1] ?? '';
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptOf(key)}${END_OF_HEAD}`;
}

/** Answers the whole frames with one write; returns the bytes of the one that is not whole. */
function answerFrames(socket: Socket, data: Buffer): Buffer {
  const answer = Buffer.allocUnsafe(data.length);
  let from = 0;
  let to = 0;
  let closes = false;
  while (!closes && data.length - from >= HEAD + KEY) {
    const length = (data[from + 1] ?? 0) - MASKED;
    if (length < 0 || length > LONGEST) {
      socket.destroy();
      return NOTHING;
    }
    const payload = from + HEAD + KEY;
    if (data.length < payload + length) break;
    closes = data[from] === CLOSE;
    answer[to++] = data[from] ?? 0;
    answer[to++] = length;
    for (let i = 0; i < length; i++) answer[to++] = (data[payload + i] ?? 0) ^ (data[from + HEAD + (i & 3)] ?? 0);
    from = payload + length;
  }
  if (to > 0) socket.write(answer.subarray(0, to));
  // It is the server that closes the TCP connection first (RFC 6455 section 7.1.1).
  if (closes) socket.end();
  return data.subarray(from);
}

// The load.

interface Target {
  readonly port: number;
  readonly path: string;
}

async function load(target: Target, seconds: number, count: number): Promise<void> {
  const tally = new Tally();
  const clients = Array.from({ length: count }, () => new Client(target, tally));
  await pause(seconds * 1000);
  const finished = Promise.all(clients.map((client) => client.finish()));
  await Promise.race([finished, pause(LAST_ECHOES_MS, undefined, { ref: false })]);
  for (const client of clients) client.stop();
  await finished;
  const { messages, errors } = tally;
  process.stdout.write(JSON.stringify({ requests: messages, p50: tally.at(0.5), p99: tally.at(0.99), errors }));
}

class Tally {
  messages = 0;
  /** Connections that were refused, broke off, or brought back something else than was sent. */
  errors = 0;
  /** How many messages took so many microseconds; the last place is for all that took longer. */
  readonly #taking = new Uint32Array(1_000_001);

  echoed(ms: number): void {
    this.messages++;
    const place = Math.min(Math.round(ms * 1000), this.#taking.length - 1);
    this.#taking[place] = (this.#taking[place] ?? 0) + 1;
  }

  /** Milliseconds within which this share of the messages came back. */
  at(share: number): number {
    let seen = 0;
    const place = this.#taking.findIndex((number) => (seen += number) > this.messages * share);
    return place < 0 ? NaN : place / 1000;
  }
}

/** One connection, made again when it breaks. Every message that comes back is sent again. */
class Client {
  readonly #target: Target;
  readonly #tally: Tally;
  readonly #ended = Promise.withResolvers<void>();
  /** All messages as they are sent and as they come back, twice in a row: any of them in their order are one piece of these. */
  readonly #sent = twice(TEXTS.map((text) => masked(TEXT, Buffer.from(text))));
  readonly #expected = twice(TEXTS.map((text) => Buffer.from([TEXT, text.length, ...Buffer.from(text)])));
  readonly #sentAt = new Float64Array(IN_FLIGHT);
  #socket: Socket;
  #rest = NOTHING;
  #accept = '';
  #state: 'asked' | 'open' | 'closing' | 'closed' = 'asked';
  /** The message that comes back next, and how many are on the way. */
  #next = 0;
  #waiting = 0;
  #over = false;

  constructor(target: Target, tally: Tally) {
    this.#target = target;
    this.#tally = tally;
    this.#socket = this.#open();
  }

  /** Sends nothing any more, awaits what is on the way, and closes. */
  finish(): Promise<void> {
    this.#over = true;
    if (this.#state === 'asked') this.stop();
    return this.#ended.promise;
  }

  stop(): void {
    this.#over = true;
    if (this.#socket.closed) this.#ended.resolve();
    else this.#socket.destroy();
  }

  #open(): Socket {
    const key = randomBytes(16).toString('base64');
    this.#accept = acceptOf(key);
    this.#state = 'asked';
    this.#rest = NOTHING;
    const socket = connect({ port: this.#target.port, host: '127.0.0.1', noDelay: true });
    socket.on('error', () => {});
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('close', () => void this.#closed());
    socket.write(
      `GET ${this.#target.path} HTTP/1.1\r\nHost: bench.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}${END_OF_HEAD}`,
    );
    return socket;
  }

  async #closed(): Promise<void> {
    if (this.#state !== 'closed') this.#tally.errors++;
    if (!this.#over) await pause(RETRY_MS);
    if (this.#over) this.#ended.resolve();
    else this.#socket = this.#open();
  }

  #read(chunk: Buffer): void {
    const data = joined(this.#rest, chunk);
    if (this.#state === 'asked') this.#readHead(data);
    else if (this.#state === 'open') this.#readEchoes(data);
    else if (this.#state === 'closing') this.#readClose(data);
  }

  #readHead(data: Buffer): void {
    const end = data.indexOf(END_OF_HEAD);
    this.#rest = data;
    if (end < 0) return;
    const head = data.toString('latin1', 0, end);
    const accept = /^sec-websocket-accept: *(\S+)/im.exec(head)?.[1];
    // The server says nothing by itself: more than the head is wrong, too.
    if (!head.startsWith('HTTP/1.1 101 ') || accept !== this.#accept || data.length > end + END_OF_HEAD.length) {
      this.#socket.destroy();
      return;
    }
    this.#state = 'open';
    this.#rest = NOTHING;
    this.#next = 0;
    this.#waiting = IN_FLIGHT;
    this.#sentAt.fill(performance.now());
    this.#socket.write(this.#sent.subarray(0, IN_FLIGHT * SENT_BYTES));
  }

  #readEchoes(data: Buffer): void {
    const first = this.#next;
    const count = Math.floor(data.length / ECHOED_BYTES);
    const bytes = count * ECHOED_BYTES;
    const from = first * ECHOED_BYTES;
    if (count > this.#waiting || data.compare(this.#expected, from, from + bytes, 0, bytes) !== 0) {
      this.#socket.destroy();
      return;
    }
    this.#rest = data.subarray(bytes);
    if (count === 0) return;
    const now = performance.now();
    for (let i = 0; i < count; i++) {
      const message = (first + i) % IN_FLIGHT;
      this.#tally.echoed(now - (this.#sentAt[message] ?? NaN));
      this.#sentAt[message] = now;
    }
    this.#next = (first + count) % IN_FLIGHT;
    if (!this.#over) {
      this.#socket.write(this.#sent.subarray(first * SENT_BYTES, (first + count) * SENT_BYTES));
      return;
    }
    this.#waiting -= count;
    if (this.#waiting > 0) return;
    this.#state = 'closing';
    this.#socket.write(masked(CLOSE, DONE));
  }

  #readClose(data: Buffer): void {
    this.#rest = data;
    if (data.equals(Buffer.from([CLOSE, DONE.length, ...DONE]))) this.#state = 'closed';
  }
}

/** A frame of a client. Those of the messages are made once and sent again and again: making them must not be what is measured. */
function masked(opcode: number, payload: Buffer): Buffer {
  const key = randomBytes(KEY);
  return Buffer.concat([
    Buffer.from([opcode, MASKED | payload.length]),
    key,
    payload.map((byte, i) => byte ^ (key[i % KEY] ?? 0)),
  ]);
}

function twice(frames: readonly Buffer[]): Buffer {
  return Buffer.concat([...frames, ...frames]);
}

function joined(rest: Buffer, chunk: Buffer): Buffer {
  return rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
}

/** RFC 6455 section 4.2.2. */
function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}

const [echoPort, port, path = '/', seconds, connections] = process.argv.slice(2);
await listen(Number(echoPort));
await load({ port: Number(port), path }, Number(seconds), Number(connections));
