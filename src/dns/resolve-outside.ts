// Names that lead out of a zone of ours: followed through the whole server, as a client's question would be.

import { messageOf, type Asked, type Handle } from './handler.ts';
import type { Message, OwnedRecord } from './wire/message.ts';
import { lowerName, type DnsName } from './wire/name.ts';
import { CLASS_IN, FLAG, RCODE, RR } from './wire/types.ts';

/** Looks up what a plugin does not hold: the records of a name and type, none when there are none to be had. */
export type ResolveOutside = (name: DnsName, type: number, from: Asked) => Promise<readonly OwnedRecord[]>;

/** EDNS size for questions of our own (DNS flag day 2020: what passes unfragmented). */
const OWN_UDP_SIZE = 1232;
/** Questions that a question leads to, one after the other: rules and aliases may go round. */
const MOST_STEPS = 8;

/** By TCP where the answer is cut. */
export function resolveThrough(ask: Handle): ResolveOutside {
  return async (name, type, from) => {
    const message = await askThrough(ask, name, type, from);
    return message?.rcode === RCODE.NOERROR ? chainFrom(name, message.answer) : [];
  };
}

/** The whole answer; undefined for none, and where the question that it is asked for was led on too often. */
export async function askThrough(ask: Handle, name: DnsName, type: number, from: Asked): Promise<Message | undefined> {
  const steps = (from.steps ?? 0) + 1;
  if (steps > MOST_STEPS) return undefined;
  const message = await askFor(ask, name, type, 'udp', steps);
  return message?.truncated ? askFor(ask, name, type, 'tcp', steps) : message;
}

async function askFor(
  ask: Handle,
  name: DnsName,
  type: number,
  transport: 'udp' | 'tcp',
  steps: number,
): Promise<Message | undefined> {
  const edns = { udpSize: OWN_UDP_SIZE, dnssecOk: false, version: 0, wantsNsid: false };
  const key = lowerName(name);
  const query = { kind: 'query', id: 0, flags: FLAG.RD, name, key, type, klass: CLASS_IN, edns } as const;
  const asked: Asked = { query, transport, client: undefined, steps, by: '' };
  return messageOf(asked, await ask(asked));
}

/** The records that follow from `name` by the aliases among them, in order; others were not asked for. */
function chainFrom(name: DnsName, records: readonly OwnedRecord[]): readonly OwnedRecord[] {
  const names = new Set<string>([lowerName(name)]);
  return records.filter((record) => {
    if (record.klass !== CLASS_IN || !names.has(lowerName(record.owner))) return false;
    if (record.type === RR.CNAME) names.add(lowerName(record.data as DnsName));
    return true;
  });
}
