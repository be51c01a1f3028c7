// ingress-nginx' metrics of the controller: what is in force, since when, and which certificates end when.

import type { Meters, Sample } from '../observe/metrics.ts';
import { shortHash } from './sticky.ts';
import type { RouteTable } from './route-table.ts';
import type { CertificateState } from './tls.ts';

const PREFIX = 'nginx_ingress_controller_';

export interface ControlMetricsOptions {
  readonly metrics: Meters;
  readonly version: string;
  readonly controllerClass: string;
  readonly table: () => RouteTable | undefined;
  readonly certificates: () => readonly CertificateState[];
  readonly upstream: () => { readonly connections: number; readonly ejected: number };
}

export class ControlMetrics {
  readonly #options: ControlMetricsOptions;
  #appliedAt = 0;
  #applied = 0;
  #problems = 0;
  #hashed: (Pick<RouteTable, 'settings' | 'selection'> & { readonly hash: number }) | undefined;

  constructor(options: ControlMetricsOptions) {
    this.#options = options;
    const one = (name: string, help: string, type: 'gauge' | 'counter', value: () => number): void =>
      this.#collected(name, help, type, () => [{ name: PREFIX + name, labels: {}, value: value() }]);
    this.#collected('build_info', 'The version', 'gauge', () => [
      {
        name: `${PREFIX}build_info`,
        labels: { release: options.version, build: '', repository: 'fairlead' },
        value: 1,
      },
    ]);
    one('config_hash', 'Hash of the configuration in force', 'gauge', () => this.#hash());
    one('config_last_reload_successful', 'Whether the newest configuration is in force', 'gauge', () =>
      options.table() ? 1 : 0,
    );
    one(
      'config_last_reload_successful_timestamp_seconds',
      'When a configuration came into force last',
      'gauge',
      () => this.#appliedAt / 1000,
    );
    one('success', 'Configurations that came into force', 'counter', () => this.#applied);
    one('errors', 'Annotations, keys and objects that could not be carried out', 'counter', () => this.#problems);
    this.#collected('ssl_expire_time_seconds', 'When a certificate ends', 'gauge', () => this.#expiries());
    this.#collected('orphan_ingress', '1 for an Ingress whose Service is missing or has no endpoint', 'gauge', () =>
      this.#orphans(),
    );
    options.metrics.collected({
      name: 'fairlead_ingress_upstream_connections',
      help: 'Connections to endpoints, idle ones included',
      type: 'gauge',
      samples: () => [
        { name: 'fairlead_ingress_upstream_connections', labels: {}, value: options.upstream().connections },
      ],
    });
    options.metrics.collected({
      name: 'fairlead_ingress_ejected_endpoints',
      help: 'Endpoints that are passed over because they failed',
      type: 'gauge',
      samples: () => [{ name: 'fairlead_ingress_ejected_endpoints', labels: {}, value: options.upstream().ejected }],
    });
  }

  applied(now: number): void {
    this.#appliedAt = now;
    this.#applied++;
  }

  problem(): void {
    this.#problems++;
  }

  #hash(): number {
    const table = this.#options.table();
    if (!table) return 0;
    if (this.#hashed?.settings !== table.settings || this.#hashed.selection !== table.selection) {
      this.#hashed = { settings: table.settings, selection: table.selection, hash: hashOf(table) };
    }
    return this.#hashed.hash;
  }

  #collected(name: string, help: string, type: 'gauge' | 'counter', samples: () => readonly Sample[]): void {
    this.#options.metrics.collected({ name: PREFIX + name, help, type, samples });
  }

  #expiries(): readonly Sample[] {
    return this.#options.certificates().map(({ host, secret, expires }) => {
      const [namespace = '', name = ''] = secret.split('/');
      const labels = { namespace, class: this.#options.controllerClass, host, secret_name: name, identifier: secret };
      return { name: `${PREFIX}ssl_expire_time_seconds`, labels, value: Math.round(expires / 1000) };
    });
  }

  #orphans(): readonly Sample[] {
    const found = new Map<string, Sample>();
    const table = this.#options.table();
    for (const routes of table?.hosts.values() ?? []) {
      for (const location of [
        ...routes.prefix.values(),
        ...routes.exact.values(),
        ...routes.literal,
        ...(routes.regex ?? []),
      ]) {
        const target = table?.backends.get(location.backend.key)?.target;
        if (target?.kind !== 'unavailable') continue;
        const { namespace, name: ingress } = location.ingress;
        const type = target.reason === 'no-endpoints' ? 'no-endpoint' : 'no-service';
        const labels = { namespace, ingress, type };
        found.set(`${namespace}/${ingress} ${type}`, { name: `${PREFIX}orphan_ingress`, labels, value: 1 });
      }
    }
    return [...found.values()];
  }
}

/** The same in every replica that reads the same objects; endpoints do not count. */
function hashOf(table: RouteTable): number {
  const texts = [...table.settings.keys()].map((key) => {
    const ingress = table.snapshot.ingresses.get(key);
    const { rules, tls, defaultBackend, annotations } = ingress ?? {};
    return JSON.stringify([key, rules, tls, defaultBackend, [...(annotations ?? [])]]);
  });
  const { globals } = table.selection;
  const all =
    [...texts].sort().join(' ') +
    JSON.stringify(globals, (_key, value: unknown) => (value instanceof Set ? [...(value as Set<unknown>)] : value));
  return Number.parseInt(shortHash(all).slice(0, 12), 16);
}
