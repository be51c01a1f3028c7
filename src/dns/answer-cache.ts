// A cache of answers: what is kept, what is asked for anew before it runs out, and what is given after.

import type { BlockServices } from './block.ts';
import { cacheMetrics, type CacheMetrics } from './cache-metrics.ts';
import {
  cacheEntry,
  cacheKey,
  cacheKindOf,
  CacheStore,
  entryPacket,
  isStale,
  limitsOf,
  nextTtlAt,
  secondsLeft,
  type CacheEntry,
  type CacheKind,
  type CacheRules,
} from './cache-store.ts';
import { zoneOf } from './corefile/words.ts';
import {
  changed,
  messageOf,
  withEdns,
  type Answer,
  type Asked,
  type Handle,
  type Handler,
  type Outcome,
} from './handler.ts';
import type { Message } from './wire/message.ts';
import { lowerName, nameText, type DnsName } from './wire/name.ts';
import type { Query } from './wire/query.ts';
import { CLASS_IN, RCODE, RR } from './wire/types.ts';

/** Popular answers are asked for anew shortly before they run out. */
export interface Prefetch {
  /** Hits that make an answer popular; 0 is never. */
  readonly amount: number;
  /** A longer pause between two hits starts the count again. */
  readonly gapMs: number;
  /** Of the TTL that is left. */
  readonly percent: number;
}

/** Answers that have run out are given for a while (RFC 8767). */
export interface ServeStale {
  readonly forMs: number;
  /** Whether upstream is asked first, and how long it is waited for; 0 is as long as it takes. */
  readonly verify: { readonly timeoutMs: number } | undefined;
  /** Seconds. */
  readonly ttl: number;
  /** After a failure upstream is left alone for this long. */
  readonly recheckMs: number;
  /** A positive answer that ran out goes before a negative one that has not. */
  readonly preferPositive: boolean;
}

export interface CacheOptions extends CacheRules {
  readonly zones: readonly DnsName[];
  readonly disabled: Readonly<Record<CacheKind, readonly DnsName[]>>;
  readonly prefetch: Prefetch;
  readonly stale: ServeStale | undefined;
}

type Kept = Extract<Outcome, { kind: 'reply' | 'packet' }>;

/** One store for the places of the chain at which it is asked. */
export class AnswerCache {
  readonly #options: CacheOptions;
  /** Whether addresses take turns. */
  readonly #turns: boolean;
  readonly #services: BlockServices;
  readonly #stores: Readonly<Record<CacheKind, CacheStore>>;
  readonly #metrics: CacheMetrics;

  constructor(options: CacheOptions, turns: boolean, services: BlockServices) {
    this.#options = options;
    this.#turns = turns;
    this.#services = services;
    // Each thread keeps its share.
    const storeOf = (kind: CacheKind): CacheStore =>
      new CacheStore(Math.ceil(options[kind].capacity / services.workers));
    this.#stores = { success: storeOf('success'), denial: storeOf('denial') };
    this.#metrics = cacheMetrics(services, options.zones.map(nameText).join(','), this.#stores);
  }

  /** The cache at one place of the chain, for the names that `takes` says. */
  handler(name: string, takes: (name: DnsName) => boolean): Handler {
    return {
      name,
      // What it keeps for later it has by then, and what it counts it is told of.
      byQuestion: true,
      handle: (asked, next) => {
        const { query } = asked;
        const { zones } = this.#options;
        if (query.klass !== CLASS_IN || zoneOf(query.key, zones) === undefined || !takes(query.key)) return next(asked);
        return this.#answer(asked, next);
      },
    };
  }

  #answer(asked: Asked, next: Handle): Answer {
    const key = cacheKey(asked.query);
    const now = this.#services.clock.monotonic();
    const entry = this.#find(key, now);
    this.#metrics.asked(entry?.kind);
    if (!entry) return changed(next(asked), (outcome) => this.#store(asked, outcome));
    this.#hit(entry, 1, now);
    if (isStale(entry, now)) return this.#stale(entry, asked, next, now);
    if (this.#isPopular(entry, now)) void this.#renew(entry, asked, next);
    return this.#told(entry, asked.query, true);
  }

  /** A denial is the newer of the two; but a failure in the cache does not hide an answer. */
  #find(key: string, now: number): CacheEntry | undefined {
    const { stale } = this.#options;
    const positive = this.#stores.success.get(key, now, stale?.forMs);
    if (positive && stale?.preferPositive) return positive;
    const denied = this.#stores.denial.get(key, now, stale?.forMs);
    if (!denied || !positive) return denied ?? positive;
    const isFailure = denied.rcode !== RCODE.NOERROR && denied.rcode !== RCODE.NXDOMAIN;
    return isFailure ? positive : denied;
  }

  #hit({ use }: CacheEntry, times: number, now: number): void {
    use.hits = now - use.lastHit > this.#options.prefetch.gapMs ? times : use.hits + times;
    use.lastHit = now;
  }

  #isPopular(entry: CacheEntry, now: number): boolean {
    const { amount, percent } = this.#options.prefetch;
    if (amount <= 0 || entry.use.hits < amount) return false;
    return secondsLeft(entry, now) <= Math.ceil((entry.ttl * percent) / 100);
  }

  /** Asks behind the cache; whether that brought an answer. At most once at a time for one entry. Never rejects. */
  async #renew(entry: CacheEntry, asked: Asked, next: Handle, ofStale = false): Promise<boolean> {
    const { use } = entry;
    const { clock } = this.#services;
    if (use.renewing || clock.monotonic() < use.waitUntil) return false;
    use.renewing = true;
    this.#metrics.prefetched();
    const again: Asked = { ...asked, by: '' };
    const outcome = await next(again);
    const message = messageOf(again, outcome);
    const brought = message?.rcode === RCODE.NOERROR || message?.rcode === RCODE.NXDOMAIN;
    // A failure must not put an answer out that may still be given.
    if (brought || !ofStale) this.#store(again, outcome, use.hits);
    use.renewing = false;
    if (!brought) use.waitUntil = clock.monotonic() + (this.#options.stale?.recheckMs ?? 0);
    return brought;
  }

  #stale(entry: CacheEntry, asked: Asked, next: Handle, now: number): Answer {
    const { stale } = this.#options;
    const given = (): Outcome => {
      this.#metrics.servedStale();
      const packet = entryPacket(entry, asked.query, stale?.ttl ?? 0, true);
      return { kind: 'packet', packet: withEdns(packet, asked.query) };
    };
    if (!stale?.verify) {
      void this.#renew(entry, asked, next, true);
      return given();
    }
    if (entry.use.renewing || now < entry.use.waitUntil) return given();
    return this.#verified(entry, asked, next, stale.verify.timeoutMs, given);
  }

  /** The new answer where it comes in time, else the old one. */
  async #verified(
    entry: CacheEntry,
    asked: Asked,
    next: Handle,
    timeoutMs: number,
    given: () => Outcome,
  ): Promise<Outcome> {
    const { clock } = this.#services;
    const renewed = this.#renew(entry, asked, next, true);
    const giveUp = new AbortController();
    const late = timeoutMs > 0 ? clock.sleep(timeoutMs, giveUp.signal).then(() => false) : undefined;
    const brought = await (late ? Promise.race([renewed, late]) : renewed);
    giveUp.abort();
    const now = clock.monotonic();
    const fresh = brought ? this.#find(cacheKey(asked.query), now) : undefined;
    return fresh && !isStale(fresh, now) ? this.#told(fresh, asked.query, false) : given();
  }

  #told(entry: CacheEntry, query: Query, hit: boolean): Kept {
    const { clock } = this.#services;
    const ttl = this.#options.keepTtl ? entry.ttl : secondsLeft(entry, clock.monotonic());
    const packet = entryPacket(entry, query, ttl, hit);
    const outcome =
      this.#turns && entry.ttlAt.length > 1 && entry.kind === 'success'
        ? turning(query, packet)
        : ({ kind: 'packet', packet: withEdns(packet, query) } as const);
    if (!hit) return outcome;
    const again = (times: number): void => {
      this.#metrics.asked(entry.kind, times);
      this.#hit(entry, times, clock.monotonic());
    };
    return { ...outcome, keep: { until: nextTtlAt(entry, clock.monotonic()), again } };
  }

  #store(asked: Asked, outcome: Outcome, hits = 0): Outcome {
    const { query } = asked;
    // Refusals and failures of ours and silence are nothing to keep.
    if (outcome.kind === 'silence' || isOurFailure(outcome)) return outcome;
    const message = messageOf(asked, outcome);
    if (!message) return outcome;
    const kind = cacheKindOf(query, message);
    const now = this.#services.clock.monotonic();
    const entry = cacheEntry(query, message, kind ?? limitsOf(message), this.#options, now);
    if (entry.ttl <= 0) return outcome;
    // What is not kept has the TTLs that it would be kept for all the same.
    if (!kind || zoneOf(query.key, this.#options.disabled[kind]) !== undefined)
      return entry.ttlAt.length === 0 ? outcome : this.#told(entry, query, false);
    if (!isAnswerTo(message, query)) {
      this.#metrics.dropped();
      return outcome;
    }
    entry.use.hits = hits;
    const key = cacheKey(query);
    this.#stores[kind].set(key, entry);
    if (kind === 'success') this.#stores.denial.delete(key);
    return this.#told(entry, query, false);
  }
}

function isAnswerTo({ question }: Message, { key, type, klass }: Query): boolean {
  return (
    question !== undefined && lowerName(question.name) === key && question.type === type && question.klass === klass
  );
}

function isOurFailure(outcome: Outcome): boolean {
  return outcome.kind === 'reply' && (outcome.reply.kind === 'code' || outcome.why !== undefined);
}

/** With addresses to take turns it is written anew for each asker. */
function turning(query: Query, packet: Buffer): Kept {
  const asked: Asked = { query, transport: 'tcp', client: undefined, by: '' };
  const message = messageOf(asked, { kind: 'packet', packet });
  const addresses = message?.answer.filter(({ type }) => type === RR.A || type === RR.AAAA) ?? [];
  if (!message || addresses.length < 2) return { kind: 'packet', packet: withEdns(packet, query) };
  return { kind: 'reply', reply: { ...message, kind: 'message' } };
}
