// Why the endpoints of a Service are used or left out, in sentences for people. Pure: it reads what the resolver decided, and decides
// nothing itself; only the hints, which the Snapshot does not keep per port, are looked at again.

import { hostPort } from '../lib/ip.ts';
import { nearestName } from '../lib/edit-distance.ts';
import { mergeEndpoints, type Candidate } from './endpoint.ts';
import type { EndpointSliceRecord, ObjectKey } from './records.ts';
import type {
  Carried,
  Endpoint,
  EndpointSet,
  LeftOut,
  LeftOutReason,
  NodeIdentity,
  ResolvedPort,
  ResolvedService,
  Snapshot,
  TopologyMode,
} from './snapshot.ts';

export interface EndpointExplanation {
  /** `ip:port`. */
  readonly address: string;
  /** Node, zone and Pod as far as they are known, and its state when it is not simply ready. */
  readonly where: string;
}

export interface LeftOutExplanation extends EndpointExplanation {
  readonly reason: LeftOutReason;
  readonly why: string;
  /** What to do when it should be used; undefined when it is as it should be. */
  readonly mend: string | undefined;
}

export interface SetExplanation {
  readonly policy: 'Cluster' | 'Local';
  readonly endpoints: readonly EndpointExplanation[];
  readonly leftOut: readonly LeftOutExplanation[];
  readonly terminatingFallback: boolean;
}

export interface PortExplanation {
  readonly topology: { readonly mode: TopologyMode; readonly why: string };
  /** The sets that traffic of this port uses. */
  readonly sets: readonly SetExplanation[];
}

/** Whether Service addresses are carried, and if not why not and the mend. */
export function explainCarried(carried: Carried, proxyName: string | undefined): string {
  if (carried.kind === 'carried') return 'yes';
  switch (carried.reason) {
    case 'headless':
      return 'no: it is headless (clusterIP: None) and has no address to program; DNS answers with its endpoints';
    case 'external-name':
      return 'no: it is an ExternalName; DNS answers with a CNAME, and nothing is programmed';
    case 'no-cluster-ip':
      return 'no: it has no ClusterIP yet; the API server allocates one, or set spec.clusterIP in a manifest';
    case 'service-proxy-name':
      return `no: its label service.kubernetes.io/service-proxy-name gives it to "${proxyName ?? ''}"; take the label away to have it carried here`;
  }
}

/** One port of the Service: the topology mode with its ground, and of each set in use who is in, who is not, and why. */
export function explainPort(service: ResolvedService, port: ResolvedPort, node: NodeIdentity): PortExplanation {
  const candidates = candidatesOf(service, port, node);
  const hints = new Map(candidates.map((each) => [addressOf(each.endpoint), each]));
  const sets = ([['Cluster', port.cluster] as const, ['Local', port.local] as const] as const).flatMap(
    ([policy, set]) => explainSet(policy, set, { service, node, hints }),
  );
  return { topology: { mode: port.topology, why: topologyGround(candidates, port.topology, node) }, sets };
}

interface View {
  readonly service: ResolvedService;
  readonly node: NodeIdentity;
  readonly hints: ReadonlyMap<string, Candidate>;
}

function explainSet(policy: 'Cluster' | 'Local', set: EndpointSet, view: View): readonly SetExplanation[] {
  if (set.kind === 'unused') return [];
  return [
    {
      policy,
      endpoints: set.endpoints.map(explainEndpoint),
      leftOut: set.leftOut.map((each) => explainLeftOut(each, view)),
      terminatingFallback: set.terminatingFallback,
    },
  ];
}

function explainEndpoint(endpoint: Endpoint): EndpointExplanation {
  const parts = [
    endpoint.local ? 'on this node' : endpoint.nodeName === undefined ? 'node unknown' : `on ${endpoint.nodeName}`,
    ...(endpoint.zone === undefined ? [] : [`zone ${endpoint.zone}`]),
    ...(endpoint.podName === undefined ? [] : [`Pod ${endpoint.podName}`]),
    ...(endpoint.terminating ? [endpoint.serving ? 'terminating, still serves' : 'terminating'] : []),
  ];
  return { address: addressOf(endpoint), where: parts.join(', ') };
}

function explainLeftOut({ endpoint, reason }: LeftOut, view: View): LeftOutExplanation {
  return { ...explainEndpoint(endpoint), reason, ...sentence(endpoint, reason, view) };
}

function sentence(
  endpoint: Endpoint,
  reason: LeftOutReason,
  { service, node, hints }: View,
): { readonly why: string; readonly mend: string | undefined } {
  const { namespace } = service.record;
  const pod = endpoint.podName;
  switch (reason) {
    case 'not-ready':
      return {
        why: 'it is not ready',
        mend:
          pod === undefined
            ? `see why its EndpointSlice says ready: false (kubectl -n ${namespace} get endpointslices -l kubernetes.io/service-name=${service.record.name} -o yaml)`
            : `see what its readiness waits for (kubectl -n ${namespace} describe pod ${pod}); publishNotReadyAddresses: true on the Service uses it all the same`,
      };
    case 'not-serving':
      return {
        why: endpoint.terminating ? 'it is terminating and no longer passes its readiness probe' : 'it does not serve',
        mend: undefined,
      };
    case 'terminating-not-needed':
      return {
        why: 'it is terminating, and others are ready: connections it has go on, new ones go there',
        mend: undefined,
      };
    case 'not-local':
      return {
        why: `policy Local takes endpoints on ${node.name} only`,
        mend:
          endpoint.nodeName === undefined
            ? 'its EndpointSlice names no node; set nodeName there when it runs here'
            : undefined,
      };
    case 'other-zone':
      return {
        why: `its hints give it to ${zonesOf(hints.get(addressOf(endpoint))?.zoneHints)}, and this node is in zone ${node.zone ?? 'unknown'}`,
        mend: undefined,
      };
    case 'other-node':
      return {
        why: `its hints give it to ${list(hints.get(addressOf(endpoint))?.nodeHints, 'node', 'no node')}, and this node is ${node.name}`,
        mend: undefined,
      };
  }
}

function zonesOf(hints: readonly string[] | undefined): string {
  return list(hints, 'zone', 'no zone');
}

function list(names: readonly string[] | undefined, noun: string, none: string): string {
  if (!names || names.length === 0) return none;
  return `${noun}${names.length > 1 ? 's' : ''} ${names.join(', ')}`;
}

/** Why the mode is what it is (KEP-2433, KEP-3015): over the ready endpoints all must carry a hint, and one must name us. */
function topologyGround(candidates: readonly Candidate[], mode: TopologyMode, node: NodeIdentity): string {
  const ready = candidates.filter(({ endpoint }) => endpoint.ready);
  if (mode === 'same-node') return `every ready endpoint carries node hints, and one at least names ${node.name}`;
  if (mode === 'same-zone')
    return `every ready endpoint carries zone hints, and one at least names zone ${node.zone ?? ''}`;
  if (ready.length === 0) return 'no endpoint is ready';
  const bare = (hint: 'zoneHints' | 'nodeHints') => ready.filter((each) => !each[hint]?.length);
  const [noZone, noNode] = [bare('zoneHints'), bare('nodeHints')];
  if (noZone.length === ready.length && noNode.length === ready.length) return 'the EndpointSlices carry no hints';
  const short =
    noZone.length <= noNode.length ? { which: 'zone', without: noZone } : { which: 'node', without: noNode };
  if (short.without.length > 0) {
    const names = short.without.slice(0, 3).map(({ endpoint }) => addressOf(endpoint));
    const more = short.without.length > names.length ? ' and others' : '';
    return `${short.without.length} of ${ready.length} ready endpoints carry no ${short.which} hint (${names.join(', ')}${more}); one without switches hints off`;
  }
  if (short.which === 'zone' && node.zone === undefined) {
    return `the zone of ${node.name} is unknown; its Node needs the label topology.kubernetes.io/zone`;
  }
  return short.which === 'zone'
    ? `no hint names this node's zone, ${node.zone ?? 'unknown'}`
    : `no hint names this node, ${node.name}`;
}

/** The port's endpoints with their hints, as the resolver merged them. */
function candidatesOf(service: ResolvedService, port: ResolvedPort, node: NodeIdentity): readonly Candidate[] {
  const { namespace, name } = service.record;
  const slices = service.members.map(({ endpoint, family, ports }): EndpointSliceRecord => ({
    namespace,
    name,
    serviceName: name,
    family,
    ports,
    endpoints: [endpoint],
  }));
  return mergeEndpoints(slices, { name: port.name, protocol: port.protocol, family: port.family }, node.name);
}

export interface IngressRoute {
  /** `host/path`; `*` for every host. */
  readonly url: string;
  /** `namespace/name` of the Ingress. */
  readonly ingress: ObjectKey;
}

/** Where Ingresses send to the Service, whatever class they have; sorted. */
export function ingressRoutesTo(snapshot: Snapshot, service: ResolvedService): readonly IngressRoute[] {
  const { namespace, name } = service.record;
  const routes: IngressRoute[] = [];
  for (const [ingress, record] of snapshot.ingresses.entries()) {
    if (record.namespace !== namespace) continue;
    if (record.defaultBackend?.kind === 'service' && record.defaultBackend.service === name) {
      routes.push({ url: '* (default backend)', ingress });
    }
    for (const { host, paths } of record.rules) {
      for (const { path, backend } of paths) {
        if (backend.kind === 'service' && backend.service === name)
          routes.push({ url: `${host ?? '*'}${path}`, ingress });
      }
    }
  }
  return routes.sort((a, b) => (a.url < b.url ? -1 : 1));
}

/** What DNS has for the Service, one phrase a name; `zone` without a final dot. */
export function dnsNamesOf({ record, carried, ports }: ResolvedService, zone: string): readonly string[] {
  const name = `${record.name}.${record.namespace}.svc.${zone}`;
  if (record.type === 'ExternalName') return [`${name} (CNAME ${record.externalName ?? ''})`];
  if (!record.headless && record.clusterIPs.length === 0) return [];
  const headless = record.headless || (carried.kind === 'ignored' && carried.reason === 'headless');
  const named = new Set(
    ports.flatMap((port) => (port.name === '' ? [] : [`_${port.name}._${port.protocol.toLowerCase()}.${name}`])),
  );
  return [
    `${name} (${headless ? 'its endpoints' : record.clusterIPs.join(', ')})`,
    ...[...named].map((each) => `${each} (SRV)`),
  ];
}

/** Keys of Services that may have been meant: the same name in other namespaces, then the key most like it; at most five. */
export function nearServices(snapshot: Snapshot, key: ObjectKey): readonly ObjectKey[] {
  const name = key.slice(key.indexOf('/') + 1);
  const keys = [...snapshot.services.keys()].sort();
  const elsewhere = keys.filter((candidate) => candidate.endsWith(`/${name}`)).slice(0, 4);
  const like = nearestName(key, keys);
  return [...new Set([...elsewhere, ...(like === undefined ? [] : [like])])];
}

function addressOf(endpoint: Endpoint): string {
  return hostPort(endpoint.ip, endpoint.port);
}
