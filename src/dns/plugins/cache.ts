// cache: answers of others are kept. The cluster's own names never are: what the API server says is answered at once.

import type { BlockServices, PluginDefinition } from '../block.ts';
import {
  cacheEntry,
  cacheKey,
  cacheKindOf,
  CacheStore,
  entryPacket,
  nextTtlAt,
  secondsLeft,
  type CacheEntry,
  type CacheKind,
  type CacheLimits,
  type CacheRules,
} from '../cache-store.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, notBuilt, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import { changed, messageOf, withEdns, type Asked, type Handler, type Outcome } from '../handler.ts';
import { ROOT, type DnsName } from '../wire/name.ts';
import type { Query } from '../wire/query.ts';
import { CLASS_IN, RR } from '../wire/types.ts';

const CAPACITY = 9984;
const SMALLEST = 1024;
const SUCCESS_TTL = 3600;
const DENIAL_TTL = 1800;
const MIN_TTL = 5;
const SERVFAIL_TTL = 5;
const MOST_SERVFAIL_TTL = 300;
const OPTIONS = ['success', 'denial', 'servfail', 'disable', 'keepttl'];
const NOT_BUILT: ReadonlySet<string> = new Set(['prefetch', 'serve_stale', 'serve_stale_policy']);

interface CacheOptions extends CacheRules {
  readonly zones: readonly DnsName[];
  readonly disabled: Readonly<Record<CacheKind, readonly DnsName[]>>;
}

/** One store for the places of the chain at which it is asked. */
function cacheOf(options: CacheOptions, turns: boolean, { clock, dnsMetrics, workers }: BlockServices) {
  // Each thread keeps its share.
  const storeOf = ({ capacity }: CacheLimits) => new CacheStore(Math.ceil(capacity / workers));
  const stores = { success: storeOf(options.success), denial: storeOf(options.denial) };
  dnsMetrics.watchCache(stores);
  const keeps = (kind: CacheKind, name: DnsName): boolean => zoneOf(name, options.disabled[kind]) === undefined;

  const told = (entry: CacheEntry, query: Query, hit: boolean): Outcome => {
    const ttl = options.keepTtl ? undefined : secondsLeft(entry, clock.monotonic());
    const packet = entryPacket(entry, query, ttl, hit);
    const outcome =
      turns && entry.ttlAt.length > 1 && entry.kind === 'success'
        ? turning(query, packet)
        : ({ kind: 'packet', packet: withEdns(packet, query) } as const);
    if (!hit) return outcome;
    const again = (times: number): void => dnsMetrics.cacheAsked(entry.kind, times);
    return { ...outcome, keep: { until: nextTtlAt(entry, clock.monotonic()), again } };
  };

  const store = (asked: Asked, outcome: Outcome): Outcome => {
    const { query } = asked;
    // Refusals of ours and silence are nothing to keep.
    if (outcome.kind === 'silence' || (outcome.kind === 'reply' && outcome.reply.kind === 'code')) return outcome;
    const message = messageOf(asked, outcome);
    const kind = message && cacheKindOf(query, message);
    if (!kind || !keeps(kind, query.key)) return outcome;
    const entry = cacheEntry(query, message, kind, options, clock.monotonic());
    if (entry.ttl <= 0) return outcome;
    const key = cacheKey(query);
    stores[kind].set(key, entry);
    if (kind === 'success') stores.denial.delete(key);
    return told(entry, query, false);
  };

  return (name: string, takes: (name: DnsName) => boolean): Handler => ({
    name,
    // What it keeps for later it has by then, and what it counts it is told of.
    byQuestion: true,
    handle: (asked, next) => {
      const { query } = asked;
      if (query.klass !== CLASS_IN || zoneOf(query.key, options.zones) === undefined || !takes(query.key))
        return next(asked);
      const key = cacheKey(query);
      const now = clock.monotonic();
      // A failure in the cache does not hide an answer that still holds.
      const entry = stores.success.get(key, now) ?? stores.denial.get(key, now);
      dnsMetrics.cacheAsked(entry?.kind);
      return entry ? told(entry, query, true) : changed(next(asked), (outcome) => store(asked, outcome));
    },
  });
}

/** With addresses to take turns it is written anew for each asker. */
function turning(query: Query, packet: Buffer): Extract<Outcome, { kind: 'reply' | 'packet' }> {
  const asked: Asked = { query, transport: 'tcp', client: undefined, by: '' };
  const message = messageOf(asked, { kind: 'packet', packet });
  const addresses = message?.answer.filter(({ type }) => type === RR.A || type === RR.AAAA) ?? [];
  if (!message || addresses.length < 2) return { kind: 'packet', packet: withEdns(packet, query) };
  return { kind: 'reply', reply: { ...message, kind: 'message' } };
}

/** Where the chain has the cache's second place: behind kubernetes, for names that it hands on. */
export const CACHE_BEHIND = 'cache behind kubernetes';

export const cache: PluginDefinition = {
  name: 'cache',
  once: true,
  setup: ({ args, options, place }, draft) => {
    const read = { ...DEFAULTS, disabled: { success: [] as readonly DnsName[], denial: [] as readonly DnsName[] } };
    const [ttlText, ...names] = args;
    const hasTtl = ttlText !== undefined && /^-?[0-9]+$/.test(ttlText);
    if (hasTtl) {
      const ttl = integer(ttlText, place, "the cache's longest TTL", 1, 2_147_483_647);
      read.success = { ...read.success, maxTtl: ttl };
      read.denial = { ...read.denial, maxTtl: ttl };
    }
    const own = zones(hasTtl ? names : args, place, draft.zones);
    for (const option of options) readOption(option, read, own);
    const rules: CacheOptions = { ...read, zones: own };
    // Names of the cluster's zones are asked of the cluster first; only what it hands on may be kept.
    let at: ReturnType<typeof cacheOf> | undefined;
    const liveZones = (): readonly DnsName[] => {
      const answered = draft.kubernetes?.zones ?? [];
      return answered.flatMap(({ origin, reverse = [] }) => [origin, ...reverse]);
    };
    const shared = (services: BlockServices) => (at ??= cacheOf(rules, draft.loadBalanced, services));
    draft.answer('cache', (services) => {
      const live = liveZones();
      return shared(services)('cache', (name) => zoneOf(name, live) === undefined);
    });
    draft.answer(CACHE_BEHIND, (services) => {
      const live = liveZones();
      return shared(services)('cache', (name) => zoneOf(name, live) !== undefined);
    });
  },
};

const DEFAULTS = {
  success: { capacity: CAPACITY, maxTtl: SUCCESS_TTL, minTtl: MIN_TTL } as CacheLimits,
  denial: { capacity: CAPACITY, maxTtl: DENIAL_TTL, minTtl: MIN_TTL } as CacheLimits,
  servfail: SERVFAIL_TTL,
  keepTtl: false,
};

type Draft = typeof DEFAULTS & { disabled: Record<CacheKind, readonly DnsName[]> };

function readOption({ name, args, place }: Option, read: Draft, own: readonly DnsName[]): void {
  switch (name) {
    case 'success':
    case 'denial':
      read[name] = limits(name, args, place, read[name]);
      return;
    case 'servfail': {
      count(args, place, name, 1);
      const seconds = duration(args[0] ?? '', place) / 1000;
      if (seconds > MOST_SERVFAIL_TTL) throw new CorefileError(place, 'servfail is five minutes at most');
      read.servfail = Math.floor(seconds);
      return;
    }
    case 'disable': {
      const [kind, ...names] = args;
      if (kind !== 'success' && kind !== 'denial')
        throw new CorefileError(place, 'disable takes success or denial, and the zones that it is for');
      read.disabled[kind] = [...read.disabled[kind], ...zones(names, place, own.length > 0 ? own : [ROOT])];
      return;
    }
    case 'keepttl':
      count(args, place, name, 0);
      read.keepTtl = true;
      return;
    default:
      if (NOT_BUILT.has(name)) throw notBuilt('cache', `"${name}"`, place);
      throw unknownOption('cache', name, place, OPTIONS);
  }
}

/** CAPACITY [TTL [MINTTL]] */
function limits(name: string, args: readonly string[], place: Place, before: CacheLimits): CacheLimits {
  count(args, place, name, 1, 3);
  const [capacity = '', maxTtl, minTtl] = args;
  return {
    capacity: Math.max(SMALLEST, integer(capacity, place, `the capacity of ${name}`, 0, 100_000_000)),
    maxTtl: maxTtl === undefined ? before.maxTtl : integer(maxTtl, place, 'the longest TTL', 1, 2_147_483_647),
    minTtl: minTtl === undefined ? before.minTtl : integer(minTtl, place, 'the shortest TTL', 0, 2_147_483_647),
  };
}
