// Which tracked flows lead to where nothing is any more. The kernel chooses an endpoint once for each flow, and a UDP client that
// goes on sending from one socket keeps its choice alive for good. Pure.

import { hostPort, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { ResolvedPort, ResolvedService, ServicePortKey, Snapshot } from '../../model/snapshot.ts';
import { carriedPorts, frontendsOf } from '../intent.ts';

/** The flows to one address and port that are to be looked at, and which of them are stale. */
export interface FlowQuery {
  readonly family: IpFamily;
  readonly protocol: 'UDP' | 'TCP';
  /** Where the client sent to. */
  readonly address: Ip;
  readonly port: Port;
  readonly stale:
    | {
        readonly kind: 'all-but';
        /** `ip:port` of the endpoints that flows may go to. */
        readonly endpoints: ReadonlySet<string>;
        /** Flows that no rule sent anywhere go too: they began when there was nobody, and would go on into the void. */
        readonly untranslated: boolean;
      }
    | { readonly kind: 'only'; readonly endpoints: ReadonlySet<string> };
}

export interface FlowPlanOptions {
  /** The addresses on which NodePorts answer: flows to the same port elsewhere are not the Service's. */
  readonly nodePortIps: readonly Ip[];
  /** TCP flows to endpoints that no slice names any more are to be reset. */
  readonly resetTcp: boolean;
}

/**
 * What to look at after `after` came into force in the place of `before`. Without `before` (a start), every UDP port: what is
 * still valid stays. Traffic policies and topology do not count: a flow goes on while its endpoint serves, terminating or not.
 */
export function staleFlows(
  before: Snapshot | undefined,
  after: Snapshot,
  options: FlowPlanOptions,
): readonly FlowQuery[] {
  const queries: FlowQuery[] = [];
  if (!before) {
    for (const service of after.services.values()) compareServices(undefined, service, true, options, queries);
    return queries;
  }
  for (const difference of after.services.differences(before.services)) {
    compareServices(difference.before, difference.after, false, options, queries);
  }
  return queries;
}

function compareServices(
  before: ResolvedService | undefined,
  after: ResolvedService | undefined,
  start: boolean,
  options: FlowPlanOptions,
  queries: FlowQuery[],
): void {
  const old = portsByKey(before);
  const now = portsByKey(after);
  for (const key of new Set([...old.keys(), ...now.keys()])) {
    const was = old.get(key);
    const is = now.get(key);
    if ((is ?? was)?.protocol === 'UDP') compareUdp(was, is, start, options, queries);
    if (options.resetTcp && was?.protocol === 'TCP') compareTcp(was, is, options, queries);
  }
}

function portsByKey(service: ResolvedService | undefined): ReadonlyMap<ServicePortKey, ResolvedPort> {
  return new Map(carriedPorts(service).map((port) => [port.key, port]));
}

interface Place {
  readonly address: Ip;
  readonly port: Port;
  readonly isNodePort: boolean;
}

function placesOf(port: ResolvedPort | undefined, nodePortIps: readonly Ip[]): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  if (!port) return places;
  for (const frontend of frontendsOf(port)) {
    const isNodePort = frontend.address === undefined;
    const own = nodePortIps.filter((ip) => ip.includes(':') === (port.family === 6));
    for (const address of frontend.address === undefined ? own : [frontend.address]) {
      places.set(hostPort(address, frontend.port), { address, port: frontend.port, isNodePort });
    }
  }
  return places;
}

function servingOf(port: ResolvedPort | undefined): ReadonlySet<string> {
  return new Set(port?.endpoints.filter(({ serving }) => serving).map(({ ip, port: number }) => hostPort(ip, number)));
}

function compareUdp(
  was: ResolvedPort | undefined,
  is: ResolvedPort | undefined,
  start: boolean,
  { nodePortIps }: FlowPlanOptions,
  queries: FlowQuery[],
): void {
  const family = (is ?? was)?.family ?? 4;
  const old = placesOf(was, nodePortIps);
  const now = placesOf(is, nodePortIps);
  const served = servingOf(was);
  const serving = servingOf(is);
  const lost = [...served].some((endpoint) => !serving.has(endpoint));
  const first = served.size === 0 && serving.size > 0;
  for (const [name, { address, port, isNodePort }] of new Map([...old, ...now])) {
    const gone = !now.has(name);
    const fresh = !old.has(name) && (!start || is !== undefined);
    if (!gone && !fresh && !lost && !first) continue;
    // At a NodePort that is gone, or never was, the node's own programs may be talking.
    const untranslated = !(gone && isNodePort) && !(start && serving.size === 0);
    const endpoints = gone ? new Set<string>() : serving;
    queries.push({ family, protocol: 'UDP', address, port, stale: { kind: 'all-but', endpoints, untranslated } });
  }
}

function compareTcp(
  was: ResolvedPort,
  is: ResolvedPort | undefined,
  { nodePortIps }: FlowPlanOptions,
  queries: FlowQuery[],
): void {
  const kept = new Set(is?.endpoints.map(({ ip, port }) => hostPort(ip, port)));
  const endpoints = new Set(was.endpoints.map(({ ip, port }) => hostPort(ip, port)).filter((name) => !kept.has(name)));
  if (endpoints.size === 0) return;
  for (const { address, port } of placesOf(was, nodePortIps).values()) {
    queries.push({ family: was.family, protocol: 'TCP', address, port, stale: { kind: 'only', endpoints } });
  }
}
