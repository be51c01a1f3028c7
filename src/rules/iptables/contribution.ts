// What one Service puts into the chains. Pure: the planner puts the contributions together, render writes them.

import { cidrContains, cidrFamily } from '../../lib/cidr.ts';
import { hostPort, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { Endpoint, ResolvedPort, ResolvedService } from '../../model/snapshot.ts';
import type { FrontendKey } from '../claims.ts';
import type { RulesConfig } from '../config.ts';
import {
  carriedPorts,
  externalAction,
  frontendsOf,
  internalAction,
  shortCircuitAction,
  type Action,
  type Frontend,
} from '../intent.ts';
import { LOCALHOST_ACCEPTED, counted } from './accounting.ts';
import { LOOPBACK_4, podMatch } from './layout.ts';
import {
  chainId,
  endpointHash,
  servicePortHash,
  servicePortName,
  type ChainId,
  type ChainName,
  type Table,
} from './names.ts';
import { dnat, fromSource, oneOf, reject, remember, rule, seenBefore, type RuleParts } from './rule.ts';

export interface Contribution {
  /** Chains that are this Service's alone, with all of their lines. */
  readonly chains: ReadonlyMap<ChainId, string>;
  /** Its lines in the chains that all Services share. */
  readonly lines: ReadonlyMap<ChainId, string>;
}

export interface ContributionContext {
  readonly config: RulesConfig;
  readonly nodeIps: readonly Ip[];
  /** Whether this Service is the one that holds the place. */
  readonly holds: (frontend: FrontendKey) => boolean;
  /** Rules of endpoints carry no comments in a large cluster: they are most of the text. */
  readonly endpointComments: boolean;
  /** Whether connections to NodePorts on loopback are counted. */
  readonly countsLoopback: boolean;
}

export function frontendKey({ address, protocol, port, servicePort }: Frontend): FrontendKey {
  return `${address ?? servicePort.family} ${protocol} ${port}`;
}

/** The places that the Service would have. */
export function frontendKeys(service: ResolvedService | undefined): ReadonlySet<FrontendKey> {
  return new Set(carriedPorts(service).flatMap((port) => frontendsOf(port).map(frontendKey)));
}

export function contributionOf(service: ResolvedService, context: ContributionContext): Contribution {
  const writer = new Writer(service.key, context);
  for (const port of carriedPorts(service)) writer.port(port);
  return { chains: writer.chains, lines: writer.lines };
}

/** One ServicePort: its names, and what happens to its traffic. */
interface Place {
  readonly port: ResolvedPort;
  readonly family: IpFamily;
  readonly name: string;
  readonly cluster: ChainName;
  readonly local: ChainName;
  readonly external: ChainName;
  readonly firewall: ChainName;
}

class Writer {
  readonly chains = new Map<ChainId, string>();
  readonly lines = new Map<ChainId, string>();
  readonly #service: ObjectKey;
  readonly #context: ContributionContext;

  constructor(service: ObjectKey, context: ContributionContext) {
    this.#service = service;
    this.#context = context;
  }

  port(port: ResolvedPort): void {
    // An address that is given twice is what it is given as last: a load balancer's, with its source ranges.
    const places = new Map(frontendsOf(port).map((each) => [frontendKey(each), each]));
    const frontends = [...places.values()].filter((each) => this.#context.holds(frontendKey(each)));
    const name = servicePortName(this.#service, port.name);
    const hash = servicePortHash(name, port.protocol);
    const place: Place = {
      port,
      family: port.family,
      name,
      cluster: `KUBE-SVC-${hash}`,
      local: `KUBE-SVL-${hash}`,
      external: `KUBE-EXT-${hash}`,
      firewall: `KUBE-FW-${hash}`,
    };
    const internal = frontends.filter(({ kind }) => kind === 'clusterIP');
    const external = frontends.filter(({ kind }) => kind !== 'clusterIP');
    for (const frontend of internal) this.#internal(place, frontend);
    for (const frontend of external) this.#external(place, frontend);
    this.#healthCheck(place);
    this.#policies(place, internal, external);
  }

  #internal(place: Place, { address: destination }: Frontend): void {
    const action = internalAction(place.port);
    const parts = { protocol: place.port.protocol, port: place.port.port, destination };
    if (action.kind !== 'forward') {
      this.#refuse(place, 'KUBE-SERVICES', action, parts);
      return;
    }
    const target = place.port.internalTrafficPolicy === 'Local' ? place.local : place.cluster;
    this.#shared(place, 'nat', 'KUBE-SERVICES', { ...parts, comment: `${place.name} cluster IP`, target });
  }

  #external(place: Place, frontend: Frontend): void {
    const { port, family, name } = place;
    const { kind, address, protocol } = frontend;
    const outside = externalAction(port);
    const parts = { protocol, port: frontend.port, destination: address };
    if (outside.kind !== 'forward') {
      const matches = address === undefined ? '-m addrtype --dst-type LOCAL' : undefined;
      this.#refuse(place, 'KUBE-EXTERNAL-SERVICES', outside, { ...parts, matches });
    }
    if (shortCircuitAction(port).kind === 'reject') return;
    if (kind === 'nodePort') {
      const line = { ...parts, comment: name, target: place.external };
      if (this.#context.countsLoopback && family === 4) {
        const counts = { destination: LOOPBACK_4, last: counted(LOCALHOST_ACCEPTED) };
        this.#shared(place, 'nat', 'KUBE-NODEPORTS', { ...line, ...counts });
      }
      this.#shared(place, 'nat', 'KUBE-NODEPORTS', line);
      return;
    }
    const guarded = kind === 'loadBalancerIP' && port.sourceRanges !== undefined;
    const what = kind === 'loadBalancerIP' ? 'loadbalancer IP' : 'external IP';
    const target = guarded ? place.firewall : place.external;
    this.#shared(place, 'nat', 'KUBE-SERVICES', { ...parts, comment: `${name} ${what}`, target });
    if (!guarded) return;
    const comment = `${name} traffic not accepted by ${place.firewall}`;
    this.#shared(place, 'filter', 'KUBE-PROXY-FIREWALL', { ...parts, comment, target: 'DROP' });
    this.chains.set(chainId(family, 'nat', place.firewall), this.#firewall(place));
  }

  #refuse(place: Place, chain: ChainName, action: Exclude<Action, { kind: 'forward' }>, parts: RuleParts): void {
    const why = action.kind === 'reject' ? 'has no endpoints' : 'has no local endpoints';
    const target = action.kind === 'reject' ? reject(place.family, place.port.protocol) : 'DROP';
    this.#shared(place, 'filter', chain, { ...parts, comment: `${place.name} ${why}`, target });
  }

  /** `loadBalancerSourceRanges`; a node inside a range that dials an address bound on itself comes from that very address. */
  #firewall({ port, family, name, firewall, external }: Place): string {
    const ranges = port.sourceRanges ?? [];
    const comment = `${name} loadbalancer IP`;
    const own = ranges.filter((range) => cidrFamily(range) === family);
    const nodeAllowed = this.#context.nodeIps.some((ip) => own.some((range) => cidrContains(range, ip)));
    const vips = port.loadBalancerIPs.filter(({ vip }) => vip).map(({ ip }) => ip);
    let text = '';
    for (const source of [...own, ...(nodeAllowed ? vips : [])]) {
      text += rule(firewall, { source: fromSource(source), comment, target: external });
    }
    return text + rule(firewall, { comment: `other traffic to ${name} will be dropped by KUBE-PROXY-FIREWALL` });
  }

  #healthCheck(place: Place): void {
    const { healthCheckNodePort } = place.port;
    if (healthCheckNodePort === undefined) return;
    const comment = `${place.name} health check node port`;
    this.#shared(place, 'filter', 'KUBE-NODEPORTS', {
      protocol: 'TCP',
      port: healthCheckNodePort,
      comment,
      target: 'ACCEPT',
    });
  }

  /** The chains that mark traffic and choose an endpoint, for the policies that are in use. */
  #policies(place: Place, internal: readonly Frontend[], external: readonly Frontend[]): void {
    const { port } = place;
    const inside = internal.length > 0 ? internalAction(port) : undefined;
    const all = external.length > 0 ? shortCircuitAction(port) : undefined;
    const outside = external.length > 0 ? externalAction(port) : undefined;
    const cluster = [port.internalTrafficPolicy === 'Cluster' ? inside : undefined, all];
    const local = [
      port.internalTrafficPolicy === 'Local' ? inside : undefined,
      port.externalTrafficPolicy === 'Local' ? outside : undefined,
    ];
    for (const [chain, actions] of [
      [place.cluster, cluster],
      [place.local, local],
    ] as const) {
      const endpoints = actions.find((action) => action?.kind === 'forward');
      if (endpoints?.kind === 'forward') this.#choose(place, chain, endpoints.endpoints, internal);
    }
    if (all !== undefined && all.kind !== 'reject') this.#externalChain(place, outside?.kind === 'forward');
  }

  #externalChain({ port, family, name, external, cluster, local }: Place, hasLocal: boolean): void {
    const what = `${name} external destinations`;
    let text = '';
    if (port.externalTrafficPolicy === 'Cluster') {
      text += rule(external, { comment: `masquerade traffic for ${what}`, target: 'KUBE-MARK-MASQ' });
      text += rule(external, { target: cluster });
    } else {
      const pods = podMatch(this.#context.config, family)?.pod;
      if (pods) text += rule(external, { ...pods, comment: `pod traffic for ${what}`, target: cluster });
      const matches = '-m addrtype --src-type LOCAL';
      const masquerade = `masquerade LOCAL traffic for ${what}`;
      text += rule(external, { comment: masquerade, matches, target: 'KUBE-MARK-MASQ' });
      text += rule(external, { comment: `route LOCAL traffic for ${what}`, matches, target: cluster });
      if (hasLocal) text += rule(external, { target: local });
    }
    this.chains.set(chainId(family, 'nat', external), text);
  }

  #choose(place: Place, chain: ChainName, endpoints: readonly Endpoint[], internal: readonly Frontend[]): void {
    const { port, family, name } = place;
    let text = this.#isInternalChain(place, chain) ? this.#masqueraded(place, chain, internal) : '';
    const targets = endpoints.map((endpoint) => ({
      list: `KUBE-SEP-${endpointHash(name, port.protocol, endpoint.ip, endpoint.port)}`,
      comment: this.#endpointComment(`${name} -> ${hostPort(endpoint.ip, endpoint.port)}`),
      endpoint,
    }));
    if (port.affinityTimeoutSeconds !== undefined) {
      for (const { list, comment } of targets) {
        const matches = seenBefore(list, port.affinityTimeoutSeconds, family);
        text += rule(chain, { comment, matches, target: list });
      }
    }
    for (const [index, { list, comment, endpoint }] of targets.entries()) {
      const left = targets.length - index;
      text += rule(chain, { comment, matches: left > 1 ? oneOf(left) : undefined, target: list });
      this.#endpoint(place, list, endpoint);
    }
    this.chains.set(chainId(family, 'nat', chain), text);
  }

  #isInternalChain({ port, local, cluster }: Place, chain: ChainName): boolean {
    return chain === (port.internalTrafficPolicy === 'Local' ? local : cluster);
  }

  #masqueraded({ port, family, name }: Place, chain: ChainName, internal: readonly Frontend[]): string {
    const { config } = this.#context;
    const others = config.masqueradeAll ? {} : podMatch(config, family)?.notPod;
    if (!others) return '';
    const parts = { comment: `${name} cluster IP`, protocol: port.protocol, port: port.port, target: 'KUBE-MARK-MASQ' };
    return internal.map(({ address }) => rule(chain, { ...parts, ...others, destination: address })).join('');
  }

  #endpoint({ port, family, name }: Place, list: ChainName, { ip, port: target }: Endpoint): void {
    const id = chainId(family, 'nat', list);
    if (this.chains.has(id)) return;
    const comment = this.#endpointComment(name);
    const matches = port.affinityTimeoutSeconds === undefined ? undefined : remember(list, family);
    this.chains.set(
      id,
      // An endpoint that reaches itself would see its own address as the client's and drop the packet.
      rule(list, { source: fromSource(ip), comment, target: 'KUBE-MARK-MASQ' }) +
        rule(list, { comment, matches, protocol: port.protocol, target: dnat(ip, target) }),
    );
  }

  #endpointComment(text: string): string | undefined {
    return this.#context.endpointComments ? text : undefined;
  }

  #shared({ family }: Place, table: Table, chain: ChainName, parts: RuleParts): void {
    const id = chainId(family, table, chain);
    this.lines.set(id, (this.lines.get(id) ?? '') + rule(chain, parts));
  }
}
