// `dns --localip`: one node's own DNS server. Flags → the node's side of it, and the Corefile that its template makes.

import { join } from 'node:path';
import { parseIp, type Ip } from '../lib/ip.ts';
import { parsePort } from '../lib/port.ts';
import { parseGoDuration } from '../lib/go-duration.ts';
import { fillTemplate, parseStubDomains, parseUpstreamNameservers } from '../dns/node-local/template.ts';
import { NodeLocal } from '../dns/node-local/node.ts';
import type { Files } from '../system/files.ts';
import type { Arguments } from './args.ts';
import type { RunningContext } from './context.ts';
import { UsageError } from './errors.ts';
import { NODE_LOCAL_FLAGS } from './node-local-flags.ts';
import { parseListen, type ListenAddress } from './listen-address.ts';
import { clusterDomain } from './settings.ts';

export interface NodeLocalSettings {
  readonly ips: readonly Ip[];
  readonly setUpInterface: boolean;
  readonly interfaceName: string;
  readonly setUpRules: boolean;
  readonly intervalMs: number;
  readonly healthPort: number;
  readonly metrics: ListenAddress;
  readonly skipTeardown: boolean;
  /** How often the Corefile is read where it has no `reload`; undefined is never. */
  readonly rereadMs: number | undefined;
  readonly template: string;
  readonly upstreamService: string;
  readonly configMap: string;
  readonly domain: string;
}

/** What the flags say; undefined where this is no node's server. */
export function nodeLocalSettings(args: Arguments): NodeLocalSettings | undefined {
  const words = args.list('localip');
  if (!words) {
    for (const { name, kind } of NODE_LOCAL_FLAGS)
      if ((kind === 'switch' ? args.isSet(name) : args.text(name)) !== undefined)
        throw new UsageError(`flag --${name} is for a node's own DNS server; name its addresses with --localip`);
    return undefined;
  }
  const ips = words.map((word) => {
    const ip = parseIp(word);
    if (!ip) throw new UsageError(`flag --localip is a list of addresses such as 169.254.20.10, not "${word}"`);
    return ip;
  });
  if (args.isSet('setupebtables'))
    throw new UsageError(
      'flag --setupebtables: rules of ebtables are not built; leave it out, and set net.bridge.bridge-nf-call-iptables=1 where Pods are behind a bridge',
    );
  const interfaceName = args.text('interfacename') ?? 'nodelocaldns';
  if (!/^[A-Za-z0-9_.-]{1,15}$/.test(interfaceName))
    throw new UsageError(`flag --interfacename is a name of at most 15 characters, not "${interfaceName}"`);
  return {
    ips,
    setUpInterface: args.isSet('setupinterface') ?? true,
    interfaceName,
    setUpRules: args.isSet('setupiptables') ?? true,
    intervalMs: interval(args),
    healthPort: portOf(args),
    metrics: listenOf(args),
    skipTeardown: args.isSet('skipteardown') ?? false,
    rereadMs: args.isSet('reloadwithsignal') ? interval(args) : undefined,
    template: args.text('basecorefile') ?? '/etc/coredns/Corefile.base',
    upstreamService: args.text('upstreamsvc') ?? 'kube-dns',
    configMap: args.text('kubednscm') ?? '/etc/kube-dns',
    domain: clusterDomain(args),
  };
}

function portOf(args: Arguments): number {
  const text = args.text('health-port') ?? '8080';
  const port = parsePort(text);
  if (port === undefined) throw new UsageError(`flag --health-port is a port from 1 to 65535, not "${text}"`);
  return port;
}

function listenOf(args: Arguments): ListenAddress {
  const text = args.text('metrics-listen-address') ?? '0.0.0.0:9353';
  const listen = parseListen(text);
  if (!listen) throw new UsageError(`flag --metrics-listen-address is IP:PORT, not "${text}"`);
  return listen;
}

/** Seconds, or a duration as Go writes it. */
function interval(args: Arguments): number {
  const text = args.text('syncinterval') ?? '60';
  const ms = /^[0-9]+$/.test(text) ? Number(text) * 1000 : parseGoDuration(text);
  if (ms === undefined || ms < 1000)
    throw new UsageError(`flag --syncinterval is a number of seconds from 1, or a duration such as 60s, not "${text}"`);
  return ms;
}

export function nodeLocal(settings: NodeLocalSettings, context: RunningContext): NodeLocal {
  return new NodeLocal({ ...context, ...settings, metrics: context.metrics, log: context.log.named('node') });
}

/** Files in which the path of the Corefile holds the filled template, where there is one. `onMistake`: a ConfigMap that cannot be used. */
export async function withTemplate(
  files: Files,
  path: string,
  settings: NodeLocalSettings,
  onMistake: (message: string) => void,
): Promise<Files> {
  const read = (file: string): Promise<string | undefined> => files.readText(file).catch(() => undefined);
  const template = await read(settings.template);
  const text = template ?? (await read(path));
  if (text === undefined) return files;
  const parsed = async <T>(
    name: string,
    parse: (
      text: string,
    ) => { readonly kind: 'value'; readonly value: T } | { readonly kind: 'mistake'; readonly message: string },
    fallback: T,
  ): Promise<T> => {
    const value = await read(join(settings.configMap, name));
    const result = value === undefined ? undefined : parse(value);
    if (result?.kind === 'mistake') onMistake(`the ConfigMap in ${settings.configMap}: ${result.message}`);
    return result?.kind === 'value' ? result.value : fallback;
  };
  const variable = `${settings.upstreamService.toUpperCase().replaceAll('-', '_')}_SERVICE_HOST`;
  const filled = fillTemplate(text, {
    localIps: settings.ips,
    clusterDns: parseIp(process.env[variable] ?? ''),
    upstreamServers: await parsed('upstreamNameservers', parseUpstreamNameservers, ['/etc/resolv.conf']),
    clusterDomain: settings.domain,
    stubDomains: await parsed('stubDomains', parseStubDomains, new Map<string, readonly string[]>()),
  });
  if (filled.kind === 'needs-cluster-dns')
    throw new UsageError(
      `the Corefile wants the address of the Service ${settings.upstreamService}, and there is no ${variable} in the environment; name another Service with --upstreamsvc, or write the address into the Corefile`,
    );
  return { ...files, readText: async (file) => (file === path ? filled.text : files.readText(file)) };
}
