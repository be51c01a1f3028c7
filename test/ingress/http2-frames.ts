// Frames of HTTP/2 written by hand, for what no client library would send.

import { connect, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { eventually } from '../support/until.ts';

export const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, continuation: 9 } as const;
export const FLAG = { endStream: 1, endHeaders: 4 } as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

export interface RawHttp2 {
  readonly socket: Socket;
  readonly frames: readonly Frame[];
  readonly closed: () => boolean;
  readonly send: (type: number, flags: number, stream: number, payload?: Buffer) => void;
  /** The answer of one stream: its HEADERS, or how it was refused. */
  readonly outcome: (stream: number) => Promise<'headers' | 'reset' | 'connection'>;
}

export async function rawHttp2(port: number): Promise<RawHttp2> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  const frames: Frame[] = [];
  let received = Buffer.alloc(0);
  let closed = false;
  socket.on('error', () => {});
  socket.on('close', () => (closed = true));
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 9 && received.length >= 9 + received.readUIntBE(0, 3)) {
      const length = received.readUIntBE(0, 3);
      const [type = 0, flags = 0] = [received[3], received[4]];
      frames.push({ type, flags, stream: received.readUInt32BE(5), payload: received.subarray(9, 9 + length) });
      received = received.subarray(9 + length);
    }
  });
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const send: RawHttp2['send'] = (type, flags, stream, payload = Buffer.alloc(0)) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    socket.write(Buffer.concat([head, payload]));
  };
  send(FRAME.settings, 0, 0);
  return {
    socket,
    frames,
    closed: () => closed,
    send,
    outcome: async (stream) => {
      const found = (type: number) => frames.some((frame) => frame.type === type && frame.stream === stream);
      const over = () => closed || frames.some(({ type }) => type === FRAME.goAway);
      await eventually('an answer', () => found(FRAME.headers) || found(FRAME.reset) || over());
      return found(FRAME.headers) ? 'headers' : found(FRAME.reset) ? 'reset' : 'connection';
    },
  };
}

/** Literal fields without indexing and without Huffman (RFC 7541 section 6.2.2): the bytes stand as they are. */
export function fieldBlock(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]));
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const rest = bytes.length - 127;
  const length = rest < 128 ? [127, rest] : [127, (rest & 127) | 128, rest >> 7];
  return Buffer.concat([Buffer.from(length), bytes]);
}
