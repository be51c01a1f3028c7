// ingress-nginx' metrics of the controller: what is in force, since when, and which certificates end when.

import type { Meters, Sample } from '../observe/metrics.ts';
import { addressSpace } from '../system/proc.ts';
import { shortHash } from './sticky.ts';
import type { RouteTable } from './route-table.ts';
import type { CertificateState } from './tls.ts';

const PREFIX = 'nginx_ingress_controller_';

export interface ControlMetricsOptions {
  readonly metrics: Meters;
  readonly version: string;
  readonly controllerClass: string;
  /** Of every sample: class, namespace and Pod of the controller. */
  readonly labels: Readonly<Record<string, string>>;
  /** Threads that carry requests. */
  readonly threads: number;
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
      this.#collected(name, help, type, () => [{ name: PREFIX + name, labels: options.labels, value: value() }]);
    this.#collected('build_info', 'The version', 'gauge', () => [
      {
        name: `${PREFIX}build_info`,
        labels: { ...options.labels, release: options.version, build: '', repository: 'fairlead' },
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
    this.#collected('ssl_certificate_info', 'What a certificate is', 'gauge', () => this.#certificates());
    this.#process(one);
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
    return this.#options.certificates().map((certificate) => {
      const value = Math.round(certificate.expires / 1000);
      return { name: `${PREFIX}ssl_expire_time_seconds`, labels: this.#ofCertificate(certificate), value };
    });
  }

  #certificates(): readonly Sample[] {
    return this.#options.certificates().map((certificate) => {
      const { issuer, serial, keyKind } = certificate;
      const labels = {
        ...this.#ofCertificate(certificate),
        issuer_organization: issuer.organization,
        issuer_common_name: issuer.commonName,
        serial_number: serial,
        public_key_algorithm: keyKind,
      };
      return { name: `${PREFIX}ssl_certificate_info`, labels, value: 1 };
    });
  }

  /** As in ingress-nginx without the labels of the controller, but for its class. */
  #ofCertificate({ host, secret, serial }: CertificateState): Readonly<Record<string, string>> {
    const [namespace = '', name = ''] = secret.split('/');
    // ingress-nginx: the serial number of the issuer's name, which hardly any has, and that of the certificate.
    return { namespace, class: this.#options.controllerClass, host, secret_name: name, identifier: `-${serial}` };
  }

  /** What nginx' processes were asked for; here it is this one. */
  #process(one: (name: string, help: string, type: 'gauge' | 'counter', value: () => number) => void): void {
    const memory = (): number => process.memoryUsage.rss();
    one('nginx_process_num_procs', 'Threads that carry requests', 'gauge', () => this.#options.threads);
    one('nginx_process_oldest_start_time_seconds', 'When the process started', 'gauge', () => {
      return Math.round(performance.timeOrigin / 1000);
    });
    one('nginx_process_resident_memory_bytes', 'Memory of the process', 'gauge', memory);
    one(
      'nginx_process_virtual_memory_bytes',
      'Address space of the process',
      'gauge',
      () => addressSpace() ?? memory(),
    );
    one('nginx_process_cpu_seconds_total', 'CPU time of the process', 'counter', () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000_000;
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
        const labels = { ...this.#options.labels, namespace, ingress, type };
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
