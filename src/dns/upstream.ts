// One question to one upstream server: a socket of its own, so a random source port of its own, for each.

import { hostPort, type Ip } from '../lib/ip.ts';
import { parsePort, type Port } from '../lib/port.ts';
import { parseIp } from '../lib/ip.ts';
import type { Clock } from '../system/clock.ts';
import { systemTcp, type TcpSocket } from '../system/tcp.ts';
import { systemUdp } from '../system/udp.ts';
import type { Transport } from './handler.ts';
import { FrameReader, frame } from './wire/frame.ts';
import { lowerName, skipPlainName, type DnsName } from './wire/name.ts';
import { FLAG, HEADER_SIZE, RCODE } from './wire/types.ts';

export interface UpstreamServer {
  readonly address: Ip;
  readonly port: Port;
}

export type Exchange =
  | { readonly kind: 'reply'; readonly packet: Buffer }
  /** `code` as of the system, or TIMEOUT, ABORTED, CLOSED, BAD_REPLY. */
  | { readonly kind: 'failed'; readonly code: string };

export interface ExchangeOptions {
  readonly server: UpstreamServer;
  readonly transport: Transport;
  /** With the id that the reply must carry. */
  readonly packet: Buffer;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

const DNS_PORT = 53;

/** `10.0.0.1`, `10.0.0.1:53`, `fd00::1`, `[fd00::1]:53`. Undefined for anything else. */
export function parseUpstream(text: string): UpstreamServer | undefined {
  const match = /^\[([^\]]+)\](?::([0-9]+))?$/.exec(text) ?? /^([^:]+)(?::([0-9]+))?$/.exec(text) ?? [text, text];
  const address = parseIp(match[1] ?? '');
  const port = parsePort(match[2] ?? String(DNS_PORT));
  return address && port && { address, port };
}

export function upstreamText(server: UpstreamServer): string {
  return hostPort(server.address, server.port);
}

/** Never rejects; nothing is left open when it resolves. */
export async function exchange(options: ExchangeOptions): Promise<Exchange> {
  if (options.signal.aborted) return { kind: 'failed', code: 'ABORTED' };
  return options.transport === 'udp' ? exchangeUdp(options) : exchangeTcp(options);
}

function exchangeUdp({ server, packet, timeoutMs, clock, signal }: ExchangeOptions): Promise<Exchange> {
  return new Promise((resolve) => {
    const finish = (result: Exchange): void => {
      timer.cancel();
      signal.removeEventListener('abort', abort);
      flow.close();
      resolve(result);
    };
    const fail = (code: string): void => finish({ kind: 'failed', code });
    const abort = (): void => fail('ABORTED');
    const flow = systemUdp.open({
      ...server,
      // What does not match is not the answer, and must not keep the true one out (CVE-2023-28452).
      onMessage: (data) => {
        const reply = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
        if (answers(reply, packet)) finish({ kind: 'reply', packet: reply });
      },
      onError: fail,
    });
    const timer = clock.after(timeoutMs, () => fail('TIMEOUT'));
    signal.addEventListener('abort', abort, { once: true });
    flow.send(packet);
  });
}

async function exchangeTcp({ server, packet, timeoutMs, clock, signal }: ExchangeOptions): Promise<Exchange> {
  const giveUp = new AbortController();
  let code = 'TIMEOUT';
  const timer = clock.after(timeoutMs, () => giveUp.abort());
  const abort = (): void => {
    code = 'ABORTED';
    giveUp.abort();
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    const connected = await systemTcp.connect({ ...server, signal: giveUp.signal });
    if (connected.kind === 'failed') return { kind: 'failed', code: giveUp.signal.aborted ? code : connected.code };
    const result = await readReply(connected.socket, packet, giveUp.signal);
    connected.socket.destroy();
    return result ?? { kind: 'failed', code };
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', abort);
  }
}

/** Undefined when it was given up. */
function readReply(socket: TcpSocket, packet: Buffer, giveUp: AbortSignal): Promise<Exchange | undefined> {
  return new Promise((resolve) => {
    const frames = new FrameReader();
    const quit = (): void => resolve(undefined);
    giveUp.addEventListener('abort', quit, { once: true });
    if (giveUp.aborted) quit();
    socket.on('error', (error: NodeJS.ErrnoException) => resolve({ kind: 'failed', code: error.code ?? 'CLOSED' }));
    socket.on('close', () => resolve({ kind: 'failed', code: 'CLOSED' }));
    socket.on('end', () => resolve({ kind: 'failed', code: 'CLOSED' }));
    socket.on('data', (data: Buffer) => {
      for (const message of frames.push(data))
        resolve(answers(message, packet) ? { kind: 'reply', packet: message } : { kind: 'failed', code: 'BAD_REPLY' });
    });
    socket.write(frame(packet));
  });
}

/**
 * Whether a message answers the query: its id, its question (RFC 5452 section 9.1), and that it is a reply. A refusal
 * may come without the question.
 */
function answers(reply: Buffer, query: Buffer): boolean {
  if (reply.length < HEADER_SIZE || reply.readUInt16BE(0) !== query.readUInt16BE(0)) return false;
  const flags = reply.readUInt16BE(2);
  if (!(flags & FLAG.QR) || (flags ^ query.readUInt16BE(2)) & 0x7800) return false;
  const questions = reply.readUInt16BE(4);
  const rcode = flags & 0xf;
  if (questions === 0) return rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN;
  const end = skipPlainName(query, HEADER_SIZE, query.length);
  if (questions !== 1 || end < 0 || reply.length < end + 4) return false;
  return (
    questionName(reply, end) === questionName(query, end) && reply.compare(query, end, end + 4, end, end + 4) === 0
  );
}

function questionName(packet: Buffer, end: number): DnsName {
  return lowerName(packet.toString('latin1', HEADER_SIZE, end) as DnsName);
}
