// Flag values → typed settings, with every mistake named before anything is started.

import { parseCidr, type Cidr } from '../lib/cidr.ts';
import { parsePort, type Port } from '../lib/port.ts';
import { defaultRulesConfig, type DetectLocal, type RulesSettings, type UserspaceConfig } from '../rules/config.ts';
import { parseUpstream, type UpstreamServer } from '../dns/upstream.ts';
import type { RulesModeSetting } from '../rules/mode.ts';
import type { Arguments } from './args.ts';
import { parseRulesMode } from './rules-mode.ts';
import { UsageError } from './errors.ts';
import { parseListen, type ListenAddress } from './listen-address.ts';

export interface LogSettings {
  readonly format: 'text' | 'json';
  readonly verbosity: number;
}

export function logSettings(args: Arguments): LogSettings {
  const format = args.text('logging-format') ?? 'text';
  if (format !== 'text' && format !== 'json') {
    throw new UsageError(`flag --logging-format is text or json, not "${format}"`);
  }
  const verbosity = args.text('v') ?? '0';
  if (!/^[0-9]{1,2}$/.test(verbosity)) throw new UsageError(`flag -v is a number from 0 to 99, not "${verbosity}"`);
  return { format, verbosity: Number(verbosity) };
}

export function output(args: Arguments): 'text' | 'json' {
  const format = args.text('output') ?? 'text';
  if (format === 'text' || format === 'json') return format;
  throw new UsageError(`flag --output is text or json, not "${format}"`);
}

export function nodeName(args: Arguments, hostname: string): string {
  const name = (args.text('node-name') ?? hostname).trim().toLowerCase();
  if (name === '') throw new UsageError('flag --node-name is empty; give the name of the Node that this machine is');
  return name;
}

/** The ranges for Services that name no ClusterIP: at most one of each family. */
export function clusterIpRanges(args: Arguments): readonly Cidr[] {
  return cidrs('service-cluster-ip-range', args.list('service-cluster-ip-range') ?? ['127.96.0.0/16'], true);
}

export function nodePortRange(args: Arguments): { readonly from: Port; readonly to: Port } {
  const text = args.text('service-node-port-range') ?? '30000-32767';
  const [from, to, ...rest] = text.split('-').map((part) => parsePort(part));
  if (from === undefined || to === undefined || rest.length > 0 || from > to) {
    throw new UsageError(`flag --service-node-port-range is FROM-TO with ports from 1 to 65535, not "${text}"`);
  }
  return { from, to };
}

export function rulesMode(args: Arguments, fallback: RulesModeSetting): RulesModeSetting {
  const mode = args.text('mode') ?? fallback;
  const parsed = parseRulesMode(mode);
  if (parsed !== undefined) return parsed;
  throw new UsageError(`--mode is auto, nftables, iptables, ipvs or userspace, not "${mode}"`);
}

export function rulesConfig(args: Arguments): RulesSettings {
  return {
    ...defaultRulesConfig,
    detectLocal: detectLocal(args),
    masqueradeAll: args.isSet('masquerade-all') ?? defaultRulesConfig.masqueradeAll,
    resetTcpToDeletedEndpoints:
      args.isSet('reset-tcp-to-deleted-endpoints') ?? defaultRulesConfig.resetTcpToDeletedEndpoints,
    nodePortAddresses: nodePortAddresses(args.list('nodeport-addresses')),
    userspace: userspaceConfig(args),
  };
}

/** The flags of userspace mode. `catches`: where no flag says whether Service addresses are caught. */
export function userspaceConfig(args: Arguments, catches = false): UserspaceConfig {
  const { userspace } = defaultRulesConfig;
  const buffered = wholeNumber(args, 'userspace-max-buffered-mib');
  const proxyProtocolTo = args.list('userspace-proxy-protocol-to') ?? userspace.proxyProtocolTo;
  for (const name of proxyProtocolTo) checkObjectName('userspace-proxy-protocol-to', name);
  return {
    proxyProtocolTo,
    catchAddresses: args.isSet('userspace-catch-addresses') ?? catches,
    maxConnections: wholeNumber(args, 'userspace-max-connections') ?? userspace.maxConnections,
    maxUdpFlows: wholeNumber(args, 'userspace-max-udp-flows') ?? userspace.maxUdpFlows,
    maxBufferedBytes: buffered === undefined ? userspace.maxBufferedBytes : buffered * 1024 * 1024,
  };
}

function wholeNumber(args: Arguments, flag: string): number | undefined {
  const text = args.text(flag);
  if (text === undefined) return undefined;
  if (/^[1-9][0-9]{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`flag --${flag} is a whole number from 1, not "${text}"`);
}

/** Where virtual servers of IPVS are those of others. */
export function excludedByFlag(args: Arguments): readonly Cidr[] {
  return cidrs('ipvs-exclude-cidrs', args.list('ipvs-exclude-cidrs') ?? [], false);
}

function detectLocal(args: Arguments): DetectLocal {
  const ranges = cidrs('cluster-cidr', args.list('cluster-cidr') ?? [], true);
  return ranges.length === 0 ? { kind: 'none' } : { kind: 'cidrs', cidrs: ranges };
}

function nodePortAddresses(words: readonly string[] | undefined): RulesSettings['nodePortAddresses'] {
  if (!words || words.length === 0) return 'by-mode';
  for (const kind of ['primary', 'all'] as const) {
    if (!words.includes(kind)) continue;
    if (words.length === 1) return { kind };
    throw new UsageError(`flag --nodeport-addresses: "${kind}" stands alone, without ranges beside it`);
  }
  return { kind: 'cidrs', cidrs: cidrs('nodeport-addresses', words, false) };
}

export function listenAddress(args: Arguments, flag: string, fallback: string): ListenAddress {
  return toListen(flag, args.text(flag) ?? fallback);
}

export function listenAddresses(args: Arguments, flag: string, fallback: readonly string[]): readonly ListenAddress[] {
  return (args.list(flag) ?? fallback).map((word) => toListen(flag, word));
}

export function port(args: Arguments, flag: string, fallback: number): number {
  const text = args.text(flag) ?? String(fallback);
  if (text === '0') return 0;
  const value = parsePort(text);
  if (value === undefined)
    throw new UsageError(`flag --${flag} is a port from 1 to 65535 (0: the kernel chooses), not "${text}"`);
  return value;
}

const MOST_WORKERS = 64;

/** Threads beside the main one; 0 is none. */
export function workers(args: Arguments, fallback: number): number {
  const text = args.text('workers');
  if (text === undefined) return Math.min(fallback, MOST_WORKERS);
  if (!/^[0-9]{1,4}$/.test(text) || Number(text) > MOST_WORKERS)
    throw new UsageError(`flag --workers is a number from 0 to ${MOST_WORKERS}, not "${text}"`);
  return Number(text);
}

/** `IP` or `IP:PORT`, port 53 when none is given. */
export function upstreams(args: Arguments): readonly UpstreamServer[] | undefined {
  return args.list('upstream')?.map((word) => {
    const server = parseUpstream(word);
    if (!server)
      throw new UsageError(`flag --upstream is IP or IP:PORT, such as 192.0.2.53 or [2001:db8::53]:53, not "${word}"`);
    return server;
  });
}

/** A DNS zone name in lower case without a final dot. */
export function clusterDomain(args: Arguments): string {
  const name = (args.text('cluster-domain') ?? 'cluster.local').toLowerCase().replace(/\.$/, '');
  const labels = name.split('.');
  if (name.length > 200 || !labels.every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label))) {
    throw new UsageError(`flag --cluster-domain is a DNS name such as cluster.local, not "${name}"`);
  }
  return name;
}

/** `NAMESPACE/NAME` of an object. */
export function objectFlag(args: Arguments, flag: string): string | undefined {
  const text = args.text(flag);
  if (text === undefined || text === '') return undefined;
  checkObjectName(flag, text);
  return text;
}

function checkObjectName(flag: string, text: string): void {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(text)) {
    throw new UsageError(`flag --${flag} is NAMESPACE/NAME, such as ingress-nginx/controller, not "${text}"`);
  }
}

export function annotationsPrefix(args: Arguments): string {
  const text = args.text('annotations-prefix') ?? 'nginx.ingress.kubernetes.io';
  if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text)) {
    throw new UsageError(`flag --annotations-prefix is the part of a name before the /, not "${text}"`);
  }
  return text;
}

function toListen(flag: string, text: string): ListenAddress {
  const listen = parseListen(text);
  if (listen) return listen;
  throw new UsageError(`flag --${flag} is IP:PORT, such as 127.0.0.1:8080 or [::1]:8080, not "${text}"`);
}

function cidrs(flag: string, words: readonly string[], oneOfEachFamily: boolean): readonly Cidr[] {
  const ranges = words.map((word) => {
    const range = parseCidr(word);
    if (!range)
      throw new UsageError(`flag --${flag}: "${word}" is no address range; write it as 10.0.0.0/8 or fd00::/64`);
    return range;
  });
  const six = ranges.filter((range) => range.includes(':')).length;
  if (oneOfEachFamily && (six > 1 || ranges.length - six > 1)) {
    throw new UsageError(`flag --${flag} takes one range, or one of each family; not ${words.join(',')}`);
  }
  return ranges;
}
