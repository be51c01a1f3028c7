// kube-proxy's endpoints: what probes, load balancers and people read.

import type { Metrics } from '../../observe/metrics.ts';
import type { Routes } from '../../observe/server.ts';
import type { HealthAnswer, ProxyHealth } from '../../rules/health-check/proxy-health.ts';
import type { LiveConfiguration } from './live.ts';
import { toJson } from './schema.ts';

/** `/healthz` and `/livez` in kube-proxy's words. `isEligible` is false for a node that leaves, or is not known. */
export function proxyHealthRoutes(
  health: ProxyHealth,
  isEligible: () => boolean,
  { now, metrics }: { readonly now: () => number; readonly metrics: Metrics },
): Routes {
  const counted = (name: 'healthz' | 'livez', answer: () => HealthAnswer) => {
    const counter = metrics.counter({
      name: `kubeproxy_proxy_${name}_total`,
      help: `Answers of /${name}, by status.`,
      labels: ['code'],
    });
    for (const code of ['200', '503']) counter.add(0, { code });
    return () => {
      const { status, body } = answer();
      counter.add(1, { code: String(status) });
      return { status, contentType: 'application/json', body };
    };
  };
  return new Map([
    ['/healthz', counted('healthz', () => health.healthz(now(), isEligible()))],
    ['/livez', counted('livez', () => health.livez(now()))],
  ]);
}

/** `/proxyMode`, `/configz`, and the plain `/healthz` of the metrics port. */
export function proxyDebugRoutes(mode: () => string, live: LiveConfiguration): Routes {
  return new Map([
    ['/proxyMode', () => ({ status: 200, contentType: 'text/plain', body: mode() })],
    [
      '/configz',
      () => ({
        status: 200,
        contentType: 'application/json',
        body: JSON.stringify({ 'kubeproxy.config.k8s.io': toJson(live.current) }),
      }),
    ],
    ['/healthz', () => ({ status: 200, contentType: 'text/plain; charset=utf-8', body: 'ok' })],
  ]);
}
