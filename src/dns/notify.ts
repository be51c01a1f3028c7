// NOTIFY (RFC 1996): who transfers a zone is told that it has changed.

import { ipFamily, type Ip } from '../lib/ip.ts';
import type { BlockServices, TransferRule } from './block.ts';
import { zoneOf } from './corefile/words.ts';
import { exchange, upstreamText, type UpstreamServer } from './upstream.ts';
import { nameText, type DnsName } from './wire/name.ts';
import { encodeQuery } from './wire/query.ts';
import { FLAG, RCODE, rcodeName, RR } from './wire/types.ts';

const OPCODE_NOTIFY = 4 << 11;
const TIMEOUT_MS = 2000;
const ATTEMPTS = 3;

export interface NotifyOptions {
  readonly zone: DnsName;
  readonly rules: readonly TransferRule[];
  readonly services: Pick<BlockServices, 'clock' | 'log' | 'randomId' | 'stopped'>;
}

/** Never rejects; what does not answer is in the log. */
export async function notifyAll({ zone, rules, services }: NotifyOptions): Promise<void> {
  const rule = transferRuleOf(rules, zone);
  const source = (server: UpstreamServer): Ip | undefined =>
    rule?.source && ipFamily(rule.source) === ipFamily(server.address) ? rule.source : undefined;
  await Promise.all((rule?.to ?? []).map((server) => notify(zone, server, source(server), services)));
}

async function notify(
  zone: DnsName,
  server: UpstreamServer,
  source: Ip | undefined,
  { clock, log, randomId, stopped }: NotifyOptions['services'],
): Promise<void> {
  let why = '';
  for (let i = 0; i < ATTEMPTS && !stopped.aborted; i++) {
    const packet = encodeQuery({ id: randomId(), flags: OPCODE_NOTIFY | FLAG.AA, name: zone, type: RR.SOA });
    const how = { transport: 'udp', timeoutMs: TIMEOUT_MS, clock, signal: stopped } as const;
    const told = await exchange({ ...how, server, packet, source });
    if (told.kind === 'failed') {
      why = told.code;
      continue;
    }
    const rcode = (told.packet[3] ?? 0) & 0xf;
    if (rcode === RCODE.NOERROR) return;
    why = rcodeName(rcode);
  }
  if (!stopped.aborted)
    log.warn('a server that transfers a zone does not take the note that it has changed', {
      zone: nameText(zone),
      server: upstreamText(server),
      code: why,
    });
}

/** That of the longest zone which the name is in. */
export function transferRuleOf(rules: readonly TransferRule[], name: DnsName): TransferRule | undefined {
  const zone = zoneOf(
    name,
    rules.flatMap((rule) => rule.zones),
  );
  return zone === undefined ? undefined : rules.find((rule) => rule.zones.includes(zone));
}
