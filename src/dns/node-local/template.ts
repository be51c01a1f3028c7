// The Corefile of a node: NodeLocal DNSCache's template with what it leaves open filled in, and a block for each stub domain. Pure.

import { parseIp, type Ip } from '../../lib/ip.ts';

export interface TemplateValues {
  /** The addresses that the node's server has. */
  readonly localIps: readonly Ip[];
  /** The Service that stands for the cluster's DNS servers; undefined when there is none in the environment. */
  readonly clusterDns: Ip | undefined;
  /** Where other names are asked for. */
  readonly upstreamServers: readonly string[];
  readonly clusterDomain: string;
  readonly stubDomains: ReadonlyMap<string, readonly string[]>;
}

export type FilledTemplate =
  | { readonly kind: 'corefile'; readonly text: string }
  | { readonly kind: 'needs-cluster-dns' };

const CLUSTER_DNS = '__PILLAR__CLUSTER__DNS__';

/** Stub domains become blocks as NodeLocal DNSCache makes them: `cache 30`, over TCP. */
export function fillTemplate(template: string, values: TemplateValues): FilledTemplate {
  const { localIps, clusterDns, upstreamServers, clusterDomain, stubDomains } = values;
  if (template.includes(CLUSTER_DNS) && clusterDns === undefined) return { kind: 'needs-cluster-dns' };
  const [first = '', ...others] = localIps;
  const filled = template
    .replaceAll(CLUSTER_DNS, clusterDns ?? '')
    .replaceAll('__PILLAR__UPSTREAM__SERVERS__', upstreamServers.join(' '))
    .replaceAll('__PILLAR__LOCAL__DNS__', first)
    .replaceAll('__PILLAR__DNS__SERVER__', others.join(' '))
    .replaceAll('__PILLAR__DNS__DOMAIN__', clusterDomain);
  const stubs = [...stubDomains].map(([domain, servers]) => stubBlock(domain, servers, localIps));
  return { kind: 'corefile', text: [filled, ...stubs].join('\n') };
}

function stubBlock(domain: string, servers: readonly string[], localIps: readonly Ip[]): string {
  const lines = ['errors', 'cache 30', 'loop', `bind ${localIps.join(' ')}`, `forward . ${servers.join(' ')} {`];
  return `${domain}:53 {\n    ${lines.join('\n    ')}\n        force_tcp\n    }\n}\n`;
}

export type ConfigMapValue<T> =
  | { readonly kind: 'value'; readonly value: T }
  | { readonly kind: 'mistake'; readonly message: string };

/** `upstreamNameservers` of the ConfigMap kube-dns: a JSON list of addresses, with ports or without. */
export function parseUpstreamNameservers(text: string): ConfigMapValue<readonly string[]> {
  const value = json(text);
  if (isServers(value)) return { kind: 'value', value };
  return { kind: 'mistake', message: 'upstreamNameservers is a list of addresses, such as ["192.0.2.53"]' };
}

/** `stubDomains`: a JSON object of lists of addresses by domain. */
export function parseStubDomains(text: string): ConfigMapValue<ReadonlyMap<string, readonly string[]>> {
  const value = json(text);
  const mistake = {
    kind: 'mistake',
    message: 'stubDomains is a list of addresses for each domain, such as {"example.org": ["192.0.2.53"]}',
  } as const;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return mistake;
  const domains = new Map<string, readonly string[]>();
  for (const [domain, servers] of Object.entries(value)) {
    if (!/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(domain) || !isServers(servers)) return mistake;
    domains.set(domain, servers);
  }
  return { kind: 'value', value: domains };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isServers(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string' && isServer(one));
}

function isServer(text: string): boolean {
  const match = /^\[([^\]]+)\](?::[0-9]{1,5})?$/.exec(text) ?? /^([0-9.]+)(?::[0-9]{1,5})?$/.exec(text);
  return parseIp(match?.[1] ?? text) !== undefined;
}
