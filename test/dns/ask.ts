// Questions over UDP, each from a port of its own, so that the system spreads them over the threads that answer.

import { createSocket } from 'node:dgram';
import { parseName } from '../../src/dns/wire/name.ts';
import { encodeQuery } from '../../src/dns/wire/query.ts';
import { FLAG, RR } from '../../src/dns/wire/types.ts';
import type { Server } from './dig.ts';

/** A question for the address of a name. */
export function question(name: string): Buffer {
  const parsed = parseName(name);
  if (!parsed) throw new Error(name);
  return encodeQuery({ id: 7, flags: FLAG.RD, name: parsed, type: RR.A });
}

export function codeOf(answer: Buffer): number {
  return (answer[3] ?? 0) & 0xf;
}

/** Asks for an address; the code of the answer, or `lost` after the time. */
export function ask({ address, port }: Server, name: string, ms = 2000): Promise<number | 'lost'> {
  const packet = question(name);
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const end = (result: number | 'lost'): void => {
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(() => end('lost'), ms);
    socket.on('error', () => {});
    socket.on('message', (answer) => end(codeOf(answer)));
    socket.send(packet, port, address);
  });
}

/** What 40 askers are told. */
export async function askOften(at: Server, name: string): Promise<ReadonlySet<number | 'lost'>> {
  return new Set(await Promise.all(Array.from({ length: 40 }, () => ask(at, name))));
}
