// Answers for one zone of the cluster.

import type { Handler, Answer, Asked } from './handler.ts';
import { zoneOf } from './corefile/words.ts';
import type { ResolveOutside } from './resolve-outside.ts';
import type { OwnedRecord } from './wire/message.ts';
import type { DnsName } from './wire/name.ts';
import { RCODE } from './wire/types.ts';
import { lookup, type Found } from './zone/lookup.ts';
import type { Zone } from './zone/zone.ts';

export interface KubernetesHandlerOptions {
  readonly zone: () => Zone;
  /** Undefined: an ExternalName that leads outside is answered as its CNAME alone. */
  readonly resolveOutside: ResolveOutside | undefined;
  /** Names in these that do not exist are handed on, also before the first Snapshot. */
  readonly fallthrough: readonly DnsName[];
  /** Waits for the first Snapshot, a while; undefined once there is nothing to wait for. */
  readonly firstSync?: () => Promise<void> | undefined;
}

const WHILE_THE_ZONE_STAYS = { until: Infinity };

/** Answers from the newest Zone; what is in none of its zones is handed on. */
export function kubernetesHandler(options: KubernetesHandlerOptions): Handler {
  const { zone, resolveOutside, fallthrough, firstSync } = options;
  const handler: Handler = {
    name: 'kubernetes',
    byQuestion: true,
    handle: (asked, next): Answer => {
      const found = lookup(zone(), asked.query.key, asked.query.type);
      switch (found.kind) {
        case 'outside':
          return next(asked);
        case 'reply': {
          const kept = { kind: 'reply', reply: found.reply, keep: WHILE_THE_ZONE_STAYS } as const;
          if (!isMissing(found)) return kept;
          if (zoneOf(asked.query.key, fallthrough) !== undefined) return next(asked);
          const waits = zone().synced ? undefined : firstSync?.();
          return waits ? waits.then(() => handler.handle(asked, next)) : kept;
        }
        case 'alias':
          return resolveOutside ? followed(found, asked, resolveOutside) : aliasReply(found, []);
      }
    },
  };
  return handler;
}

type Alias = Extract<Found, { kind: 'alias' }>;

async function followed(alias: Alias, asked: Asked, resolveOutside: ResolveOutside): Promise<Awaited<Answer>> {
  return aliasReply(alias, await resolveOutside(alias.target, asked.query.type, asked));
}

function aliasReply(alias: Alias, records: readonly OwnedRecord[]): Awaited<Answer> {
  const answer = [...alias.answer, ...records];
  return { kind: 'reply', reply: { kind: 'records', answer, additional: [], origin: alias.zone.origin } };
}

function isMissing({ reply }: Extract<Found, { kind: 'reply' }>): boolean {
  return reply.kind === 'negative' && reply.rcode !== RCODE.NOERROR;
}
