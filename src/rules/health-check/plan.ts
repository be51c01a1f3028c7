// Which health-check node ports there are, and what they say. Pure.

import { cidrContains, cidrFamily } from '../../lib/cidr.ts';
import { ipFamily, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { ResolvedService, Snapshot } from '../../model/snapshot.ts';
import type { NodePortAddresses } from '../config.ts';

/** `healthCheckNodePort` of one Service in one family: external load balancers ask there which nodes have endpoints. */
export interface HealthCheck {
  readonly namespace: string;
  readonly name: string;
  readonly family: IpFamily;
  readonly port: Port;
  /** Addresses of ready endpoints on this node; two ports of one Pod count once. */
  readonly localEndpoints: number;
}

/** The health checks of a Service, by key `ns/name/family`: of a load balancer with `externalTrafficPolicy: Local`, one for each family. */
export function healthChecksOf(service: ResolvedService): readonly HealthCheck[] {
  const { record, carried, ports } = service;
  const port = record.healthCheckNodePort;
  const wanted = record.type === 'LoadBalancer' && record.externalTrafficPolicy === 'Local';
  if (!wanted || port === undefined || carried.kind !== 'carried') return [];
  return ([4, 6] as const).flatMap((family) => {
    const own = ports.filter((each) => each.family === family);
    if (own.length === 0) return [];
    const local = own.flatMap(({ endpoints }) =>
      endpoints.filter((endpoint) => endpoint.local && endpoint.ready && !endpoint.terminating).map(({ ip }) => ip),
    );
    return [{ namespace: record.namespace, name: record.name, family, port, localEndpoints: new Set(local).size }];
  });
}

/** The address of every socket of a family that has to listen: the wildcard, or each of the node's addresses that NodePorts answer on. */
export function healthCheckAddresses(
  config: NodePortAddresses,
  family: IpFamily,
  nodeIps: readonly Ip[],
  own: readonly Ip[],
): readonly Ip[] {
  const everywhere = (family === 4 ? '0.0.0.0' : '::') as Ip;
  switch (config.kind) {
    case 'all':
      return [everywhere];
    case 'primary':
      return nodeIps.filter((ip) => ipFamily(ip) === family && !isLoopback(ip));
    case 'cidrs': {
      const ranges = config.cidrs.filter((range) => cidrFamily(range) === family);
      if (ranges.length === 0) return [everywhere];
      return own.filter((ip) => ranges.some((range) => cidrContains(range, ip)));
    }
  }
}

/** What load balancers are answered. kube-proxy's words, byte for byte. */
export function healthCheckAnswer(
  { namespace, name, localEndpoints }: HealthCheck,
  serviceProxyHealthy: boolean,
): { readonly status: 200 | 503; readonly body: string; readonly headers: Readonly<Record<string, string>> } {
  return {
    status: localEndpoints > 0 && serviceProxyHealthy ? 200 : 503,
    headers: { 'X-Load-Balancing-Endpoint-Weight': String(localEndpoints) },
    body: JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy }, null, '\t'),
  };
}

/** Every health check of the Snapshot; with the checks of an older one, only Services that differ are looked at. */
export function planHealthChecks(
  snapshot: Snapshot,
  previous?: { readonly snapshot: Snapshot; readonly checks: ReadonlyMap<string, readonly HealthCheck[]> },
): ReadonlyMap<string, readonly HealthCheck[]> {
  const checks = new Map(previous?.checks);
  const set = (key: string, service: ResolvedService | undefined): void => {
    const found = service ? healthChecksOf(service) : [];
    if (found.length === 0) checks.delete(key);
    else checks.set(key, found);
  };
  if (previous) {
    for (const { key, after } of snapshot.services.differences(previous.snapshot.services)) set(key, after);
  } else {
    for (const [key, service] of snapshot.services.entries()) set(key, service);
  }
  return checks;
}
