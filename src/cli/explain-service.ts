// `explain service`: what the model, the rules, DNS and Ingress make of one Service, put together for people and as JSON. Here, as the planes
// do not know each other.

import {
  dnsNamesOf,
  explainCarried,
  explainPort,
  ingressRoutesTo,
  nearServices,
  type IngressRoute,
  type PortExplanation,
} from '../model/explain.ts';
import type { ResolvedPort, ResolvedService, Snapshot } from '../model/snapshot.ts';
import type { RulesMode } from '../rules/backend.ts';
import type { RulesConfig } from '../rules/config.ts';
import {
  explainAddresses,
  explainTraffic,
  type AddressExplanation,
  type TrafficExplanation,
} from '../rules/explain.ts';
import { CommandError } from './errors.ts';
import { programmedFor, type Programmed } from './programmed.ts';

export interface ExplainInput {
  readonly snapshot: Snapshot;
  readonly config: RulesConfig;
  /** The modes whose rules are shown; every one when left out. */
  readonly modes?: readonly RulesMode[];
  /** The DNS zone of the cluster. */
  readonly zone: string;
  /** Whether the source reads Ingresses at all. */
  readonly readsIngresses: boolean;
}

export interface ServiceExplanation {
  readonly service: string;
  readonly type: string;
  readonly node: string;
  readonly zone: string | undefined;
  readonly carried: string;
  readonly ports: readonly ServicePortExplanation[];
  readonly dns: readonly string[];
  /** Undefined when Ingresses are not read. */
  readonly ingress: readonly IngressRoute[] | undefined;
  readonly programs: readonly Programmed[];
}

export interface ServicePortExplanation extends PortExplanation {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly family: string;
  readonly addresses: readonly AddressExplanation[];
  readonly traffic: readonly TrafficExplanation[];
  readonly affinitySeconds: number | undefined;
  readonly healthCheckNodePort: number | undefined;
}

/** Rejects with CommandError, with names that may have been meant, when there is no such Service. */
export async function explainService(key: string, input: ExplainInput): Promise<ServiceExplanation> {
  const { snapshot, config, zone, readsIngresses } = input;
  const service = snapshot.services.get(key);
  if (!service) throw unknownService(key, snapshot);
  const { record, carried } = service;
  const rules = carried.kind === 'carried';
  return {
    service: key,
    type: record.headless ? `${record.type}, headless` : record.type,
    node: snapshot.node.name,
    zone: snapshot.node.zone,
    carried: explainCarried(carried, record.proxyName),
    ports: service.ports.map((port) => portOf(service, port, snapshot, rules)),
    dns: dnsNamesOf(service, zone),
    ingress: readsIngresses ? ingressRoutesTo(snapshot, service) : undefined,
    programs: rules ? await programmedFor(service, snapshot, config, input.modes) : [],
  };
}

/** No Service of that key: with the names that may have been meant. */
export function unknownService(key: string, snapshot: Snapshot): CommandError {
  const near = nearServices(snapshot, key);
  const mend =
    near.length > 0
      ? `Did you mean ${near.join(', ')}?`
      : `There are ${snapshot.services.size}; \`fairlead state\` lists them.`;
  return new CommandError(`no Service ${key}. ${mend}`);
}

function portOf(
  service: ResolvedService,
  port: ResolvedPort,
  snapshot: Snapshot,
  rules: boolean,
): ServicePortExplanation {
  return {
    name: port.name,
    port: port.port,
    protocol: port.protocol,
    family: `IPv${port.family}`,
    addresses: rules ? explainAddresses(port) : [],
    traffic: rules ? explainTraffic(port) : [],
    affinitySeconds: port.affinityTimeoutSeconds,
    healthCheckNodePort: rules && port.externalTrafficPolicy === 'Local' ? port.healthCheckNodePort : undefined,
    ...explainPort(service, port, snapshot.node),
  };
}

export function explanationText(explanation: ServiceExplanation): string {
  const { service, type, node, zone, carried, ports, dns, ingress, programs } = explanation;
  const lines = [
    `Service ${service} (${type}), as node ${node} sees it${zone === undefined ? '' : ` in zone ${zone}`}`,
    `  carried   ${carried}`,
    `  DNS       ${dns.length === 0 ? 'no name of its own' : dns.join('; ')}`,
    `  Ingress   ${ingressText(ingress)}`,
    ...ports.flatMap((port) => ['', ...portLines(port)]),
    ...programs.flatMap(({ mode, lines: rules }) => [
      '',
      `What ${mode} programs for it${rules.length === 0 ? ': nothing' : ''}`,
      ...rules.map((line) => `  ${line}`),
    ]),
  ];
  return `${lines.join('\n')}\n`;
}

function ingressText(routes: readonly IngressRoute[] | undefined): string {
  if (routes === undefined) return 'not read by this process; ask one that runs `ingress` or `up`';
  if (routes.length === 0) return 'no Ingress sends to it';
  return routes.map(({ url, ingress }) => `${url} (${ingress})`).join('; ');
}

function portLines(port: ServicePortExplanation): readonly string[] {
  const { name, addresses, traffic, affinitySeconds, healthCheckNodePort, topology, sets } = port;
  const width = Math.max(0, ...addresses.map(({ address }) => address.length));
  return [
    `Port ${name === '' ? '' : `${name} `}${port.port}/${port.protocol}, ${port.family}`,
    ...addresses.map(
      ({ kind, address, note }) => `  ${address.padEnd(width)}  ${kind}${note === undefined ? '' : `: ${note}`}`,
    ),
    ...traffic.map((row) => `  ${row.traffic.replace(/^\S+/, '$& traffic')}, policy ${row.policy}: ${row.why}`),
    ...(affinitySeconds === undefined
      ? []
      : [
          `  session affinity ClientIP: a client stays with its endpoint for ${affinitySeconds} s after its last connection`,
        ]),
    ...(healthCheckNodePort === undefined ? [] : [`  health check NodePort ${healthCheckNodePort}`]),
    `  topology ${topology.mode}: ${topology.why}`,
    ...sets.flatMap(({ policy, endpoints, leftOut }) => [
      `  endpoints under policy ${policy}:${endpoints.length === 0 ? ' none' : ''}`,
      ...endpoints.map(({ address, where }) => `    ${address}  ${where}`),
      ...(leftOut.length === 0 ? [] : [`  left out under policy ${policy}:`]),
      ...leftOut.flatMap(({ address, where, why, mend }) => [
        `    ${address}  ${where}: ${why}`,
        ...(mend === undefined ? [] : [`      mend: ${mend}`]),
      ]),
    ]),
  ];
}
