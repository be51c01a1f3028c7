// The addresses of a host name, for upstream servers that a Corefile names so. Before anything is served.

import { randomInt } from 'node:crypto';
import type { Ip } from '../lib/ip.ts';
import { ipFromBytes } from '../lib/ip.ts';
import { systemClock } from '../system/clock.ts';
import { exchange, type UpstreamServer } from './upstream.ts';
import { parseMessage } from './wire/message.ts';
import type { DnsName } from './wire/name.ts';
import { encodeQuery } from './wire/query.ts';
import { FLAG, RR } from './wire/types.ts';

const TIMEOUT_MS = 2000;

/** IPv4 first. The first server that answers counts. Never rejects. */
export async function lookUpHost(name: DnsName, servers: readonly UpstreamServer[]): Promise<readonly Ip[]> {
  const found = await Promise.all([RR.A, RR.AAAA].map((type) => addresses(name, type, servers)));
  return [...new Set(found.flat())];
}

async function addresses(name: DnsName, type: number, servers: readonly UpstreamServer[]): Promise<readonly Ip[]> {
  for (const server of servers) {
    const packet = encodeQuery({ id: randomInt(0x10000), flags: FLAG.RD, name, type });
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const told = await exchange({
      server,
      transport: 'udp',
      packet,
      timeoutMs: TIMEOUT_MS,
      clock: systemClock,
      signal,
    });
    const message = told.kind === 'reply' ? parseMessage(told.packet) : undefined;
    if (message)
      return message.answer
        .filter((record) => record.type === type)
        .map((record) => ipFromBytes(Buffer.from(record.data, 'latin1')));
  }
  return [];
}
