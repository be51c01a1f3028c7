// The judgement of packet.ts told step by step, for `fairlead trace`. It asks the same predicates in the same order; a property test
// holds its verdict to `judge`, which stays free of sentences as the userspace relays ask it for each connection.

import { hostPort } from '../lib/ip.ts';
import type { ResolvedPort } from '../model/snapshot.ts';
import { explainAction } from './explain.ts';
import { externalAction, internalAction, type Action, type Frontend } from './intent.ts';
import {
  insideAction,
  isKnownNonPod,
  isPod,
  isUnallocated,
  passesSourceRanges,
  toVerdict,
  type FrontendIndex,
  type NodeView,
  type Packet,
  type PacketSource,
  type Target,
  type Verdict,
} from './packet.ts';

export interface TraceStep {
  readonly step: 'source' | 'destination' | 'source ranges' | 'policy' | 'endpoints' | 'affinity' | 'masquerade';
  readonly says: string;
}

export interface PacketExplanation {
  readonly steps: readonly TraceStep[];
  readonly verdict: Verdict;
}

/** Which endpoints the policy looks in, what it decides, and whether the source is hidden on the way. */
interface Route {
  readonly action: Action;
  readonly set: ResolvedPort['cluster'];
  readonly policy: string;
  readonly masquerade: boolean;
  readonly ground: string;
}

type Forward = Verdict & { readonly kind: 'forward' };

export function explainPacket(packet: Packet, index: FrontendIndex, view: NodeView): PacketExplanation {
  const { destination, protocol, port } = packet;
  const steps: TraceStep[] = [{ step: 'source', says: sourceSentence(packet, view) }];
  const where = `${hostPort(destination, port)}/${protocol}`;
  const frontend = index.find(packet, view);
  if (!frontend) {
    const refused = index.refusesOtherPorts(packet, view);
    const unallocated = isUnallocated(destination, view);
    steps.push({ step: 'destination', says: `${where} ${nobodySentence(packet, { refused, unallocated }, view)}` });
    return { steps, verdict: refused ? { kind: 'reject' } : { kind: unallocated ? 'drop' : 'untouched' } };
  }
  steps.push({ step: 'destination', says: `${where} is ${frontendSentence(frontend)}` });
  const { verdict, more } = explainFrontend(frontend, packet, view);
  return { steps: [...steps, ...more], verdict };
}

function explainFrontend(
  frontend: Frontend,
  from: PacketSource,
  view: NodeView,
): { readonly verdict: Verdict; readonly more: readonly TraceStep[] } {
  const { source } = from;
  const { servicePort } = frontend;
  const more: TraceStep[] = [];
  const ranges = frontend.kind === 'loadBalancerIP' ? servicePort.sourceRanges : undefined;
  if (ranges) {
    const passes = passesSourceRanges(frontend, source, view);
    const says = passes ? `let ${source} through` : `do not hold ${source}: it is dropped, endpoints or not`;
    more.push({ step: 'source ranges', says: `loadBalancerSourceRanges ${ranges.join(', ')} ${says}` });
    if (!passes) return { verdict: { kind: 'drop' }, more };
  }
  const route = routeOf(frontend, from, view);
  more.push({ step: 'policy', says: route.policy });
  more.push({ step: 'endpoints', says: explainAction(route.action, servicePort, route.set) });
  const verdict = toVerdict(frontend, route.action, source, route.masquerade);
  if (verdict.kind !== 'forward') return { verdict, more };
  if (servicePort.affinityTimeoutSeconds !== undefined && verdict.targets.length > 1) {
    const seconds = servicePort.affinityTimeoutSeconds;
    more.push({
      step: 'affinity',
      says: `sessionAffinity ClientIP: within ${seconds} s of its last connection the client goes where it went before`,
    });
  }
  more.push({
    step: 'masquerade',
    says: masqueradeSentence(
      route,
      verdict,
      view.isLocal(source) ? [] : verdict.targets.filter(({ endpoint }) => view.isLocal(endpoint.ip)),
    ),
  });
  return { verdict, more };
}

function routeOf(frontend: Frontend, from: PacketSource, view: NodeView): Route {
  const { servicePort } = frontend;
  if (frontend.kind === 'clusterIP') return clusterIPRoute(servicePort, from, view);
  if (servicePort.externalTrafficPolicy === 'Cluster') {
    return {
      action: externalAction(servicePort),
      set: servicePort.cluster,
      policy: 'externalTrafficPolicy Cluster: every endpoint that may be used from here, wherever it runs',
      masquerade: true,
      ground: 'externalTrafficPolicy Cluster hides the client, so that the answer comes back by this node',
    };
  }
  if (isPod(from, view)) {
    return {
      ...insideRoute('a Pod', servicePort, view),
      masquerade: false,
      ground: 'Pods reach each other as they are',
    };
  }
  if (view.isLocal(from.source)) {
    return {
      ...insideRoute('the node itself', servicePort, view),
      masquerade: true,
      ground: 'it comes from the node itself',
    };
  }
  return {
    action: externalAction(servicePort),
    set: servicePort.local,
    policy: 'externalTrafficPolicy Local: endpoints on this node only',
    masquerade: false,
    ground: 'externalTrafficPolicy Local keeps the client address',
  };
}

/** What Pods and the node itself get of an external address under policy Local, and how that reads. */
function insideRoute(who: string, servicePort: ResolvedPort, view: NodeView): Pick<Route, 'action' | 'set' | 'policy'> {
  const action = insideAction(servicePort, view);
  if (view.mode !== 'ipvs' || externalAction(servicePort).kind !== 'forward') {
    const policy = `externalTrafficPolicy Local, but ${who} is inside the cluster: every endpoint, as by the ClusterIP`;
    return { action, set: servicePort.cluster, policy };
  }
  const policy = `externalTrafficPolicy Local: endpoints on this node only, for ${who} too, as IPVS has one set of them for all`;
  return { action, set: servicePort.local, policy };
}

function clusterIPRoute(servicePort: ResolvedPort, from: PacketSource, view: NodeView): Route {
  const local = servicePort.internalTrafficPolicy === 'Local';
  const masquerade = view.masqueradeAll || isKnownNonPod(from, view);
  const { source } = from;
  const known = isPod(from, view)
    ? `${source} is a Pod's address`
    : 'nothing says which sources are Pods (--cluster-cidr), so none is known to be outside';
  const ground = view.masqueradeAll ? 'masqueradeAll is on' : masquerade ? `${source} is no Pod's address` : known;
  return {
    action: internalAction(servicePort),
    set: local ? servicePort.local : servicePort.cluster,
    policy: local
      ? 'internalTrafficPolicy Local: endpoints on this node only'
      : 'internalTrafficPolicy Cluster: every endpoint that may be used from here, wherever it runs',
    masquerade,
    ground,
  };
}

/** `unseen`: targets that are this node itself, which the packet reaches without passing where masquerading happens. */
function masqueradeSentence(route: Route, verdict: Forward, unseen: readonly Target[]): string {
  if (route.masquerade) {
    const own = unseen.map(({ endpoint }) => endpoint.ip).join(', ');
    return `yes: ${route.ground}${own === '' ? '' : `; an endpoint that is the node itself (${own}) is reached without`}`;
  }
  const hairpin = verdict.targets.filter(({ masquerade }) => masquerade).map(({ endpoint }) => endpoint.ip);
  if (hairpin.length > 0) {
    return `only when ${hairpin[0] ?? ''} is chosen: a Pod that reaches itself would drop its own address as the source`;
  }
  return `no: ${route.ground}`;
}

function sourceSentence(from: PacketSource, view: NodeView): string {
  const { source } = from;
  if (view.isLocal(source)) return `${source} is an address of this node`;
  const ground = detectorSentence(view);
  if (isPod(from, view)) return `${source} is a Pod's address (${ground})`;
  return `${source} is neither an address of this node nor known as a Pod's (${ground})`;
}

function detectorSentence({ detectLocal }: NodeView): string {
  switch (detectLocal.kind) {
    case 'none':
      return 'nothing says which sources are Pods';
    case 'cidrs':
      return `Pods are in ${detectLocal.cidrs.join(', ')}`;
    case 'bridge':
      return `Pods come in by the bridge ${detectLocal.interface}`;
    case 'interface-prefix':
      return `Pods come in by interfaces ${detectLocal.prefix}*`;
  }
}

function frontendSentence({ kind, servicePort }: Frontend): string {
  const name = servicePort.key.replace(/\/(TCP|UDP|SCTP)\/IPv[46]$/, '');
  switch (kind) {
    case 'clusterIP':
      return `the ClusterIP of ${name}`;
    case 'externalIP':
      return `an externalIP of ${name}`;
    case 'loadBalancerIP':
      return `a load balancer address of ${name}`;
    case 'nodePort':
      return `the NodePort of ${name}`;
  }
}

function nobodySentence(
  { destination }: Packet,
  is: { readonly refused: boolean; readonly unallocated: boolean },
  view: NodeView,
): string {
  if (is.refused) return 'is no port of the Service that has this address: REJECT';
  if (is.unallocated) return 'is in a range of Service addresses, and no Service has it: it is dropped';
  if (view.isLocal(destination) && !view.isNodePortAddress(destination)) {
    return 'is an address of this node on which NodePorts do not answer: no rule speaks of it';
  }
  return 'is no address of a Service: no rule speaks of it, it goes its way';
}
