// What is counted of one cache.

import type { BlockServices } from './block.ts';
import type { CacheKind, CacheStore } from './cache-store.ts';

export interface CacheMetrics {
  /** A question that the cache was asked: hit by kind, or missed. */
  asked(hit: CacheKind | undefined, times?: number): void;
  prefetched(): void;
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
  const stale = counter('served_stale_total', 'Answers that were given although they had run out.');
  const hits = metrics.counter({
    name: 'coredns_cache_hits_total',
    help: 'Questions that the cache answered.',
    labels: [...names, 'type'],
  });
  const entries = metrics.gauge({
    name: 'coredns_cache_entries',
    help: 'Answers in the cache.',
    labels: [...names, 'type'],
  });
  const evictions = metrics.counter({
    name: 'coredns_cache_evictions_total',
    help: 'Answers that left the cache for want of room.',
    labels: [...names, 'type'],
  });
  const counted = { success: 0, denial: 0 };
  metrics.beforeText(`cache ${own.server} ${own.zones} ${own.view}`, () => {
    for (const kind of ['success', 'denial'] as const) {
      const store = stores[kind];
      entries.set(stopped.aborted ? 0 : store.size, byKind[kind]);
      evictions.add(store.evictions - counted[kind], byKind[kind]);
      counted[kind] = store.evictions;
    }
  });
  return {
    asked: (hit, times = 1) => {
      requests.add(times, own);
      if (hit === undefined) misses.add(times, own);
      else hits.add(times, byKind[hit]);
    },
    prefetched: () => prefetches.add(1, own),
    servedStale: () => stale.add(1, own),
  };
}
