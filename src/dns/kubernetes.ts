// The handler for the cluster's zone and the reverse zones.

import type { OwnedRecord } from './wire/message.ts';
import type { DnsName } from './wire/name.ts';
import { RCODE } from './wire/types.ts';
import { PASS, type Asked, type Handler, type Outcome } from './handler.ts';
import { lookup, type Found } from './zone/lookup.ts';
import type { Zone } from './zone/zone.ts';

/** Looks up what this server does not hold: the records of a name and type, none when there are none to be had. */
export type ResolveOutside = (name: DnsName, type: number) => Promise<readonly OwnedRecord[]>;

/**
 * Answers from the newest Zone. Reverse names that are not ours are passed on (Corefile: `fallthrough in-addr.arpa
 * ip6.arpa`), also before the first Snapshot; without upstream servers they do not exist.
 */
export function kubernetesHandler(zone: () => Zone, resolveOutside: ResolveOutside | undefined): Handler {
  return {
    name: 'kubernetes',
    handle: (asked: Asked): Outcome | Promise<Outcome> => {
      const found = lookup(zone(), asked.query.key, asked.query.type);
      switch (found.kind) {
        case 'outside':
          return PASS;
        case 'reply':
          return resolveOutside && fallsThrough(zone(), found) ? PASS : found;
        case 'alias':
          return resolveOutside ? followed(found, asked, resolveOutside) : aliasReply(found, []);
      }
    },
  };
}

type Alias = Extract<Found, { kind: 'alias' }>;

async function followed(alias: Alias, asked: Asked, resolveOutside: ResolveOutside): Promise<Outcome> {
  return aliasReply(alias, await resolveOutside(alias.target, asked.query.type));
}

function aliasReply(alias: Alias, records: readonly OwnedRecord[]): Outcome {
  const answer = [...alias.answer, ...records];
  return { kind: 'reply', reply: { kind: 'records', answer, additional: [], origin: alias.zone.origin } };
}

function fallsThrough(zone: Zone, found: Extract<Found, { kind: 'reply' }>): boolean {
  const { reply } = found;
  if (reply.kind !== 'negative' || reply.rcode === RCODE.NOERROR) return false;
  return zone.reverseZones.some((reverse) => reverse === reply.zone);
}
