// What changed between two Snapshots, as a value: which ServicePorts, and in what respect.

import type { ResolvedPort, ServicePortKey, Snapshot } from './snapshot.ts';

export type PortAspect = 'addresses' | 'policies' | 'endpoints';

export type ServicePortChange =
  | { readonly kind: 'added'; readonly key: ServicePortKey; readonly after: ResolvedPort }
  | { readonly kind: 'removed'; readonly key: ServicePortKey; readonly before: ResolvedPort }
  | {
      readonly kind: 'changed';
      readonly key: ServicePortKey;
      readonly before: ResolvedPort;
      readonly after: ResolvedPort;
      /** Never empty. */
      readonly aspects: readonly PortAspect[];
    };

/**
 * The changes of the ServicePorts that the rules plane carries; a Service that begins or ends to be carried adds or removes
 * its ports. Costs what differs, not what there is.
 */
export function changesBetween(before: Snapshot, after: Snapshot): readonly ServicePortChange[] {
  const changes: ServicePortChange[] = [];
  for (const difference of after.services.differences(before.services)) {
    const old = portsByKey(difference.before);
    const now = portsByKey(difference.after);
    for (const [key, port] of old) if (!now.has(key)) changes.push({ kind: 'removed', key, before: port });
    for (const [key, port] of now) {
      const known = old.get(key);
      if (!known) {
        changes.push({ kind: 'added', key, after: port });
        continue;
      }
      const aspects = changedAspects(known, port);
      if (aspects.length > 0) changes.push({ kind: 'changed', key, before: known, after: port, aspects });
    }
  }
  return changes;
}

function portsByKey(service: { carried: { kind: string }; ports: readonly ResolvedPort[] } | undefined) {
  const carried = service?.carried.kind === 'carried' ? service.ports : [];
  return new Map(carried.map((port) => [port.key, port]));
}

function changedAspects(before: ResolvedPort, after: ResolvedPort): readonly PortAspect[] {
  const aspects: PortAspect[] = [];
  if (addresses(before) !== addresses(after)) aspects.push('addresses');
  if (policies(before) !== policies(after)) aspects.push('policies');
  if (endpoints(before) !== endpoints(after)) aspects.push('endpoints');
  return aspects;
}

function addresses(port: ResolvedPort): string {
  return JSON.stringify([port.port, port.nodePort, port.clusterIP, port.externalIPs, port.loadBalancerIPs]);
}

function policies(port: ResolvedPort): string {
  return JSON.stringify([
    port.internalTrafficPolicy,
    port.externalTrafficPolicy,
    port.affinityTimeoutSeconds,
    port.sourceRanges,
    port.healthCheckNodePort,
  ]);
}

function endpoints(port: ResolvedPort): string {
  return JSON.stringify([port.endpoints, port.cluster, port.local]);
}
