// One question to one upstream server over a socket of its own, so from a random source port of its own.

import { hostPort, parseIp, type Ip } from '../lib/ip.ts';
import { parsePort, type Port } from '../lib/port.ts';
import type { Clock } from '../system/clock.ts';
import { systemTcp, type TcpSocket } from '../system/tcp.ts';
import { systemUdp } from '../system/udp.ts';
import type { Transport } from './handler.ts';
import { FrameReader, frame } from './wire/frame.ts';
import { cutTo, isWhole } from './wire/message.ts';
import { lowerName, skipPlainName, type DnsName } from './wire/name.ts';
import { FLAG, HEADER_SIZE, RCODE } from './wire/types.ts';

export interface UpstreamServer {
  readonly address: Ip;
  readonly port: Port;
  /** How it is asked; plain DNS when left out. */
  readonly scheme?: 'tls' | 'https';
  /** The name in its certificate; its address when left out. */
  readonly serverName?: string;
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
  /** To ask from. */
  readonly source?: Ip | undefined;
}

const DEFAULT_PORTS = { dns: 53, tls: 853, https: 443 };

/**
 * `10.0.0.1`, `10.0.0.1:53`, `fd00::1`, `[fd00::1]:53`, with `tls://` or `https://` in front, and then with `%NAME` of the
 * certificate behind the address. Undefined for anything else.
 */
export function parseUpstream(text: string): UpstreamServer | undefined {
  const [, word = 'dns', rest = ''] = /^(?:([a-z0-9]+):\/\/)?(.*)$/s.exec(text) ?? [];
  if (word !== 'dns' && word !== 'tls' && word !== 'https') return undefined;
  const bare = word === 'https' ? rest.replace(/\/(?:dns-query)?$/, '') : rest;
  const [, host = '', name, portText = String(DEFAULT_PORTS[word])] =
    /^(\[[^\]]+\]|[^:%]+)(?:%([A-Za-z0-9.-]+))?(?::([0-9]+))?$/.exec(bare) ?? [];
  const address = parseIp(host.replace(/^\[(.*)\]$/, '$1')) ?? parseIp(bare);
  const port = parsePort(parseIp(bare) ? String(DEFAULT_PORTS[word]) : portText);
  if (!address || !port || (name !== undefined && word === 'dns')) return undefined;
  return {
    address,
    port,
    ...(word === 'dns' ? {} : { scheme: word }),
    ...(name === undefined ? {} : { serverName: name }),
  };
}

/** As in metrics and logs. */
export function upstreamText({ address, port, scheme }: UpstreamServer): string {
  return `${scheme === undefined ? '' : `${scheme}://`}${hostPort(address, port)}`;
}

/** Never rejects; nothing is left open when it resolves. For servers of plain DNS. */
export async function exchange(options: ExchangeOptions): Promise<Exchange> {
  if (options.signal.aborted) return { kind: 'failed', code: 'ABORTED' };
  return options.transport === 'udp' ? exchangeUdp(options) : exchangeTcp(options);
}

function exchangeUdp({ server, packet, timeoutMs, clock, signal, source }: ExchangeOptions): Promise<Exchange> {
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
      localAddress: source,
      onMessage: (data) => {
        const reply = replyTo(packet, data);
        if (reply) finish({ kind: 'reply', packet: reply });
      },
      onError: fail,
    });
    const timer = clock.after(timeoutMs, () => fail('TIMEOUT'));
    signal.addEventListener('abort', abort, { once: true });
    flow.send(packet);
  });
}

/**
 * A datagram as the reply to a question; undefined for what does not match: that is not the answer, and must not keep the true one out
 * (CVE-2023-28452). One that breaks off was cut on its way: it says that it may be asked for by TCP.
 */
export function replyTo(packet: Buffer, data: Uint8Array): Buffer | undefined {
  const reply = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (!answers(reply, packet)) return undefined;
  return isWhole(reply) ? reply : cutTo(reply, 0);
}

async function exchangeTcp({ server, packet, timeoutMs, clock, signal, source }: ExchangeOptions): Promise<Exchange> {
  const giveUp = new AbortController();
  let code = 'TIMEOUT';
  const timer = clock.after(timeoutMs, () => giveUp.abort());
  const abort = (): void => {
    code = 'ABORTED';
    giveUp.abort();
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    const connected = await systemTcp.connect({ ...server, localAddress: source, signal: giveUp.signal });
    if (connected.kind === 'failed') return { kind: 'failed', code: giveUp.signal.aborted ? code : connected.code };
    const result = await askOn(connected.socket, packet, giveUp.signal);
    connected.socket.destroy();
    return result ?? { kind: 'failed', code };
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', abort);
  }
}

/** One question on a connection that nobody else uses; undefined when it was given up. Leaves no listener behind. */
export function askOn(socket: TcpSocket, packet: Buffer, giveUp: AbortSignal): Promise<Exchange | undefined> {
  return new Promise((resolve) => {
    const frames = new FrameReader();
    const done = (result: Exchange | undefined): void => {
      giveUp.removeEventListener('abort', quit);
      socket.off('error', failed);
      socket.off('close', closed);
      socket.off('end', closed);
      socket.off('data', read);
      resolve(result);
    };
    const quit = (): void => done(undefined);
    const failed = (error: NodeJS.ErrnoException): void => done({ kind: 'failed', code: error.code ?? 'CLOSED' });
    const closed = (): void => done({ kind: 'failed', code: 'CLOSED' });
    const read = (data: Buffer): void => {
      const [message] = frames.push(data);
      if (!message) return;
      const isGood = answers(message, packet) && isWhole(message);
      done(isGood ? { kind: 'reply', packet: message } : { kind: 'failed', code: 'BAD_REPLY' });
    };
    if (giveUp.aborted) {
      quit();
      return;
    }
    giveUp.addEventListener('abort', quit, { once: true });
    socket.on('error', failed);
    socket.on('close', closed);
    socket.on('end', closed);
    socket.on('data', read);
    socket.write(frame(packet));
  });
}

/**
 * Whether a message answers the query: its id, its question (RFC 5452 section 9.1), and that it is a reply. A refusal
 * may come without the question.
 */
export function answers(reply: Buffer, query: Buffer): boolean {
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
