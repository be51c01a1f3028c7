// What Services are from outside the cluster: their external addresses, and endpoints of headless ones. For k8s_external.

import { parseIp, type Ip } from '../lib/ip.ts';
import type { ObjectKey } from '../model/records.ts';
import { PersistentMap } from '../lib/persistent-map.ts';
import { hasNamespace, ownServices } from './zone/lookup.ts';
import { endpointLabel } from './zone/service.ts';
import type { DnsService, DnsSource } from './zone/source.ts';
import type { Zone } from './zone/zone.ts';

/** One address or host name with one port of a Service. */
export interface ExternalTarget {
  readonly host: { readonly kind: 'ip'; readonly ip: Ip } | { readonly kind: 'name'; readonly name: string };
  /** Undefined where the Service has no port. */
  readonly port: number | undefined;
  readonly portName: string;
  readonly protocol: string;
  /** The endpoint's own label; undefined for the Service's. */
  readonly endpoint: string | undefined;
}

export type ExternalFound =
  | { readonly kind: 'targets'; readonly service: DnsService; readonly targets: readonly ExternalTarget[] }
  | { readonly kind: 'nodata' }
  | { readonly kind: 'missing' };

/** `labels` from the zone leftwards: namespace, Service, then an endpoint, or protocol and port. Lower case. */
export function findExternal(zone: Zone, labels: readonly string[], headless: boolean): ExternalFound {
  const [namespace = '', name, ...below] = labels;
  if (!hasNamespace(zone, namespace, 'svc')) return { kind: 'missing' };
  if (name === undefined) return { kind: 'nodata' };
  const service = zone.source?.services.get(`${namespace}/${name}`);
  if (!service || below.length > 2) return { kind: 'missing' };
  const [endpoint] = below.length === 1 ? below : [];
  const [protocol, port] = below.length === 2 ? below.map(bare) : [];
  const targets = targetsOf(service, zone, headless, endpoint !== undefined).filter(
    (target) =>
      (endpoint === undefined || target.endpoint === undefined || target.endpoint === bare(endpoint)) &&
      (port === undefined || (target.portName.toLowerCase() === port && target.protocol.toLowerCase() === protocol)),
  );
  return targets.length > 0 ? { kind: 'targets', service, targets } : { kind: 'missing' };
}

function bare(label: string): string {
  return label.startsWith('_') ? label.slice(1) : label;
}

/** External addresses, or where there are none the endpoints of a headless Service, if those are wanted. */
export function targetsOf(
  service: DnsService,
  zone: Zone,
  headless: boolean,
  ofEndpoint = false,
): readonly ExternalTarget[] {
  const hosts = externalHosts(service);
  if (headless && hosts.length === 0 && (service.record.headless || ofEndpoint)) return endpointTargets(service, zone);
  const ports = service.record.ports.length > 0 ? service.record.ports : [{ name: '', protocol: '', port: undefined }];
  return hosts.flatMap((host) =>
    ports.map(({ name, protocol, port }) => ({ host, port, portName: name, protocol, endpoint: undefined })),
  );
}

function externalHosts({ record }: DnsService): readonly ExternalTarget['host'][] {
  const ips = [...record.externalIPs, ...record.loadBalancerIPs.map(({ ip }) => ip)];
  return [
    ...[...new Set(ips)].map((ip) => ({ kind: 'ip', ip }) as const),
    ...(record.loadBalancerHostnames ?? []).map((name) => {
      const ip = parseIp(name);
      return ip ? ({ kind: 'ip', ip } as const) : ({ kind: 'name', name } as const);
    }),
  ];
}

function endpointTargets(service: DnsService, zone: Zone): readonly ExternalTarget[] {
  return service.slices.flatMap(({ endpoints, ports }) => {
    const all = ports.length > 0 ? ports : [{ name: '', protocol: '', port: undefined }];
    return [...endpoints].flatMap((endpoint): ExternalTarget[] => {
      if (!endpoint.ready) return [];
      const label = endpointLabel(endpoint, zone.options.endpointPodNames ?? false);
      return all.map(({ name, protocol, port }) => ({
        host: { kind: 'ip', ip: endpoint.ip },
        port,
        portName: name,
        protocol,
        endpoint: label,
      }));
    });
  });
}

/** The addresses by which this server is reached from outside; its own where it is no Service's endpoint. */
export function ownExternalIps(zone: Zone, headless: boolean): readonly Ip[] {
  const keys = ownServices(zone);
  if (keys.length === 0) return zone.options.selfIps;
  const ips = keys.flatMap((key) => {
    const service = zone.source?.services.get(key);
    if (!service) return [];
    const targets =
      headless && service.record.headless ? endpointTargets(service, zone) : targetsOf(service, zone, false);
    return targets.flatMap(({ host }) => (host.kind === 'ip' ? [host.ip] : []));
  });
  return [...new Set(ips)];
}

/** Which Services have an external address, kept as new as the Snapshot. */
export class ExternalOwners {
  readonly #owners = new Map<Ip, Set<ObjectKey>>();
  #seen: DnsSource['services'] = PersistentMap.empty();

  of(zone: Zone, ip: Ip): readonly ObjectKey[] {
    const services = zone.source?.services ?? PersistentMap.empty();
    for (const { key, before, after } of services.differences(this.#seen)) {
      for (const old of ipsOf(before)) this.#owners.get(old)?.delete(key);
      for (const now of ipsOf(after)) this.#owners.set(now, (this.#owners.get(now) ?? new Set<ObjectKey>()).add(key));
    }
    this.#seen = services;
    return [...(this.#owners.get(ip) ?? [])]
      .filter((key) => hasNamespace(zone, key.slice(0, key.indexOf('/')), 'svc'))
      .toSorted();
  }
}

function ipsOf(service: DnsService | undefined): readonly Ip[] {
  return service ? externalHosts(service).flatMap((host) => (host.kind === 'ip' ? [host.ip] : [])) : [];
}
