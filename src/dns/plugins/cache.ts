// cache: answers of others are kept. The cluster's own names never are: what the API server says is answered at once.

import { AnswerCache, type CacheOptions, type Prefetch, type ServeStale } from '../answer-cache.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import type { CacheKind, CacheLimits } from '../cache-store.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import { ROOT, type DnsName } from '../wire/name.ts';

const CAPACITY = 9984;
const SMALLEST = 1024;
const SUCCESS_TTL = 3600;
const DENIAL_TTL = 1800;
const MIN_TTL = 5;
const SERVFAIL_TTL = 5;
const MOST_SERVFAIL_TTL = 300;
const OPTIONS = [
  'success',
  'denial',
  'prefetch',
  'serve_stale',
  'serve_stale_policy',
  'servfail',
  'disable',
  'keepttl',
];
const NO_PREFETCH: Prefetch = { amount: 0, gapMs: 60_000, percent: 10 };
const STALE_FOR_MS = 3_600_000;
const MOST_RECHECK_MS = 300_000;

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
    const policy = options.find(({ name }) => name === 'serve_stale_policy');
    if (policy && !read.stale) throw new CorefileError(policy.place, 'serve_stale_policy needs serve_stale');
    const stale = policy && read.stale ? { ...read.stale, preferPositive: true } : read.stale;
    const rules: CacheOptions = { ...read, stale, zones: own };
    // Names of the cluster's zones are asked of the cluster first; only what it hands on may be kept.
    const made = new WeakMap<BlockServices, AnswerCache>();
    const liveZones = (): readonly DnsName[] => {
      const answered = draft.kubernetes?.zones ?? [];
      return answered.flatMap(({ origin, reverse = [] }) => [origin, ...reverse]);
    };
    const shared = (services: BlockServices): AnswerCache => {
      const known = made.get(services) ?? new AnswerCache(rules, draft.loadBalanced, services);
      made.set(services, known);
      return known;
    };
    draft.answer('cache', (services) => {
      const live = liveZones();
      return shared(services).handler('cache', (name) => zoneOf(name, live) === undefined);
    });
    draft.answer(CACHE_BEHIND, (services) => {
      const live = liveZones();
      return shared(services).handler('cache', (name) => zoneOf(name, live) !== undefined);
    });
  },
};

const DEFAULTS = {
  success: { capacity: CAPACITY, maxTtl: SUCCESS_TTL, minTtl: MIN_TTL } as CacheLimits,
  denial: { capacity: CAPACITY, maxTtl: DENIAL_TTL, minTtl: MIN_TTL } as CacheLimits,
  servfail: SERVFAIL_TTL,
  keepTtl: false,
  prefetch: NO_PREFETCH,
  stale: undefined as ServeStale | undefined,
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
    case 'prefetch':
      read.prefetch = prefetchOf(args, place);
      return;
    case 'serve_stale':
      read.stale = staleOf(args, place);
      return;
    case 'serve_stale_policy':
      if (args.length !== 1 || args[0]?.toLowerCase() !== 'prefer_positive')
        throw new CorefileError(place, 'serve_stale_policy takes one word: prefer_positive');
      return;
    case 'keepttl':
      count(args, place, name, 0);
      read.keepTtl = true;
      return;
    default:
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

/** AMOUNT [DURATION [PERCENT%]] */
function prefetchOf(args: readonly string[], place: Place): Prefetch {
  count(args, place, 'prefetch', 1, 3);
  const [amount = '', gap, percent] = args;
  if (percent !== undefined && !percent.endsWith('%'))
    throw new CorefileError(place, `the third word of prefetch is a share such as 10%, not "${percent}"`);
  return {
    amount: integer(amount, place, 'prefetch', 0, 1_000_000_000),
    gapMs: gap === undefined ? NO_PREFETCH.gapMs : duration(gap, place),
    percent:
      percent === undefined ? NO_PREFETCH.percent : integer(percent.slice(0, -1), place, "prefetch's share", 10, 90),
  };
}

/** [DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]] */
function staleOf(args: readonly string[], place: Place): ServeStale {
  const [forText, mode = 'immediate', ...rest] = args;
  const kind = mode.toLowerCase();
  if (kind !== 'immediate' && kind !== 'verify')
    throw new CorefileError(place, `serve_stale is immediate or verify, not "${mode}"`);
  const timeout = kind === 'verify' ? rest[0] : undefined;
  const times = kind === 'verify' ? rest.slice(1) : rest;
  count(times, place, `serve_stale ${kind}, behind its mode,`, 0, 2);
  const [ttl, recheck] = times.map((text) => duration(text, place));
  if (ttl !== undefined && ttl % 1000 !== 0)
    throw new CorefileError(place, 'the TTL of serve_stale is a whole number of seconds');
  if (recheck !== undefined && recheck > MOST_RECHECK_MS)
    throw new CorefileError(place, 'the recheck of serve_stale is five minutes at most');
  return {
    forMs: forText === undefined ? STALE_FOR_MS : duration(forText, place),
    verify: kind === 'verify' ? { timeoutMs: timeout === undefined ? 0 : duration(timeout, place) } : undefined,
    ttl: (ttl ?? 0) / 1000,
    recheckMs: recheck ?? 0,
    preferPositive: false,
  };
}
