// What is counted of one cache.

import type { Labels, Meters } from '../observe/metrics.ts';
import type { BlockServices } from './block.ts';
import type { CacheKind, CacheStore } from './cache-store.ts';

export interface CacheMetrics {
  /** A question that the cache was asked: hit by kind, or missed. */
  asked(hit: CacheKind | undefined, times?: number): void;
  prefetched(): void;
  /** An answer that was not to the question, and so was not kept. */
  dropped(): void;
  servedStale(): void;
}

export function cacheMetrics(
  { metrics, labels, stopped }: Pick<BlockServices, 'metrics' | 'labels' | 'stopped'>,
  zones: string,
  stores: Readonly<Record<CacheKind, CacheStore>>,
): CacheMetrics {
  const own = { server: labels.server, zones, view: labels.view };
  const byKind = { success: { ...own, type: 'success' }, denial: { ...own, type: 'denial' } };
  const names = ['server', 'zones', 'view'];
  const counter = (name: string, help: string) =>
    metrics.counter({ name: `coredns_cache_${name}`, help, labels: names });
  const requests = counter('requests_total', 'Questions that the cache was asked.');
  const misses = counter('misses_total', 'Questions that the cache did not know the answer of.');
  const prefetches = counter('prefetch_total', 'Answers that were asked for anew before they ran out.');
  const drops = counter('drops_total', 'Answers that were not kept because they were not to the question.');
  drops.add(0, own);
  const stale = counter('served_stale_total', 'Answers that were given although they had run out.');
  const hits = metrics.counter({
    name: 'coredns_cache_hits_total',
    help: 'Questions that the cache answered.',
    labels: [...names, 'type'],
  });
  watch(metrics, { labels: byKind, stores }, stopped);
  return {
    asked: (hit, times = 1) => {
      requests.add(times, own);
      if (hit === undefined) misses.add(times, own);
      else hits.add(times, byKind[hit]);
    },
    prefetched: () => prefetches.add(1, own),
    dropped: () => drops.add(1, own),
    servedStale: () => stale.add(1, own),
  };
}

interface Watched {
  readonly labels: Readonly<Record<CacheKind, Labels>>;
  readonly stores: Readonly<Record<CacheKind, CacheStore>>;
}

/** The caches that are in service, for each program or thread. */
const RUNNING = new WeakMap<Meters, Set<Watched>>();

/** Shows the sizes of the stores until they are taken out of service. */
function watch(metrics: Meters, watched: Watched, stopped: AbortSignal): void {
  const running = RUNNING.get(metrics) ?? new Set<Watched>();
  RUNNING.set(metrics, running);
  running.add(watched);
  stopped.addEventListener('abort', () => running.delete(watched));
  const samples = (name: string, of: 'size' | 'evictions') =>
    [...running].flatMap(({ labels, stores }) =>
      (['success', 'denial'] as const).map((kind) => ({ name, labels: labels[kind], value: stores[kind][of] })),
    );
  metrics.collected({
    name: 'coredns_cache_entries',
    help: 'Answers in the cache.',
    type: 'gauge',
    addsUp: true,
    samples: () => samples('coredns_cache_entries', 'size'),
  });
  metrics.collected({
    name: 'coredns_cache_evictions_total',
    help: 'Answers that left the cache for want of room.',
    type: 'counter',
    samples: () => samples('coredns_cache_evictions_total', 'evictions'),
  });
}
