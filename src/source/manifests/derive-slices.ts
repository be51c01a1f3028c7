// The EndpointSlices that a cluster's controller would make for Services with a selector. Pure.

import { ipFamily, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { EndpointSliceRecord, NodeRecord, SliceEndpoint, SlicePort } from '../../model/records.ts';
import type { AllocatedService } from './allocate.ts';
import type { PodTemplate } from './pod-template.ts';
import type { ServiceTemplate, TargetPort } from './service-template.ts';

/** Pods by namespace and by one label, so that a Service looks at few of them. */
export interface PodIndex {
  readonly pods: ReadonlyMap<string, readonly PodTemplate[]>;
}

export function indexPods(pods: Iterable<PodTemplate>): PodIndex {
  const index = new Map<string, PodTemplate[]>();
  for (const pod of pods) {
    for (const [label, value] of pod.labels) {
      const key = labelKey(pod.namespace, label, value);
      const list = index.get(key);
      if (list) list.push(pod);
      else index.set(key, [pod]);
    }
  }
  return { pods: index };
}

/**
 * One slice for each family and each set of resolved ports, endpoints in order of Pod name. Empty without a selector,
 * and for an ExternalName.
 */
export function deriveSlices(
  service: AllocatedService,
  index: PodIndex,
  nodes: ReadonlyMap<string, NodeRecord>,
): readonly EndpointSliceRecord[] {
  const { template, record, families } = service;
  if (!template.selector || record.type === 'ExternalName') return [];
  const pods = selectPods(record.namespace, template.selector, index);
  return families.flatMap((family) => {
    const byPorts = new Map<string, { ports: readonly SlicePort[]; endpoints: SliceEndpoint[] }>();
    for (const pod of pods) {
      const ip = pod.ips.find((address) => ipFamily(address) === family);
      if (!ip) continue;
      const ports = resolvePorts(template, pod);
      const signature = JSON.stringify(ports);
      const group = byPorts.get(signature) ?? { ports, endpoints: [] };
      group.endpoints.push(endpointOf(template, pod, ip, nodes));
      byPorts.set(signature, group);
    }
    return [...byPorts.values()].map(({ ports, endpoints }, number) => ({
      namespace: record.namespace,
      name: sliceName(record.name, family, number),
      serviceName: record.name,
      family,
      ports,
      endpoints,
    }));
  });
}

function sliceName(service: string, family: IpFamily, number: number): string {
  return `${service}-ipv${family}${number === 0 ? '' : `-${number + 1}`}`;
}

function labelKey(namespace: string, label: string, value: string): string {
  return `${namespace}/${label}=${value}`;
}

function selectPods(namespace: string, selector: ReadonlyMap<string, string>, index: PodIndex): readonly PodTemplate[] {
  let fewest: readonly PodTemplate[] | undefined;
  for (const [label, value] of selector) {
    const pods = index.pods.get(labelKey(namespace, label, value)) ?? [];
    if (!fewest || pods.length < fewest.length) fewest = pods;
  }
  return (fewest ?? [])
    .filter((pod) => [...selector].every(([label, value]) => pod.labels.get(label) === value))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A port whose name the Pod does not have is left out for that Pod; the Pod may still serve the others. */
function resolvePorts(template: ServiceTemplate, pod: PodTemplate): readonly SlicePort[] {
  return template.record.ports.flatMap((port, position) => {
    const target: TargetPort = template.targetPorts[position] ?? { kind: 'number', number: port.port };
    const number =
      target.kind === 'number'
        ? target.number
        : pod.ports.find((own) => own.name === target.name && own.protocol === port.protocol)?.port;
    return number === undefined ? [] : [{ name: port.name, protocol: port.protocol, port: number }];
  });
}

/** Conditions as the controller sets them: `ready` is never true of a terminating Pod, unless the Service says so. */
function endpointOf(
  template: ServiceTemplate,
  pod: PodTemplate,
  ip: Ip,
  nodes: ReadonlyMap<string, NodeRecord>,
): SliceEndpoint {
  const zone = pod.nodeName === undefined ? undefined : nodes.get(pod.nodeName)?.zone;
  const ready = template.publishNotReadyAddresses || (pod.ready && !pod.terminating);
  // KEP-3015: hints go to ready endpoints; PreferClose is the older name of PreferSameZone.
  const hinted = ready && template.distribution !== undefined;
  return {
    ip,
    ready,
    serving: pod.ready,
    terminating: pod.terminating,
    nodeName: pod.nodeName,
    zone,
    hostname: pod.subdomain === template.record.name ? pod.hostname : undefined,
    podName: pod.name,
    zoneHints: hinted && zone !== undefined ? [zone] : undefined,
    nodeHints:
      hinted && template.distribution === 'PreferSameNode' && pod.nodeName !== undefined ? [pod.nodeName] : undefined,
  };
}
