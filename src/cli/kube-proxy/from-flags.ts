// kube-proxy's flags → the configuration that they stand for. Pure.

import { parseListen } from '../listen-address.ts';
import { hostPort } from '../../lib/ip.ts';
import type { Arguments } from '../args.ts';
import { UsageError } from '../errors.ts';
import { idleNames } from '../flag.ts';
import { KUBE_PROXY_FLAGS } from '../kube-proxy-flags.ts';
import { LEAVES, configurationOf, valueAt, type FieldPath, type KubeProxyConfiguration } from './schema.ts';
import { validate } from './validate.ts';

/** The fields that each flag sets. nftables has no flags of its own: those of iptables count for it. */
export const FLAG_FIELDS: Readonly<Record<string, readonly FieldPath[]>> = {
  kubeconfig: ['clientConnection.kubeconfig'],
  'kube-api-content-type': ['clientConnection.contentType'],
  'kube-api-burst': ['clientConnection.burst'],
  'kube-api-qps': ['clientConnection.qps'],
  'node-name': ['hostnameOverride'],
  'bind-address': ['bindAddress'],
  'healthz-bind-address': ['healthzBindAddress'],
  'metrics-bind-address': ['metricsBindAddress'],
  'bind-address-hard-fail': ['bindAddressHardFail'],
  profiling: ['enableProfiling'],
  'show-hidden-metrics-for-version': ['showHiddenMetricsForVersion'],
  mode: ['mode'],
  'iptables-masquerade-bit': ['iptables.masqueradeBit', 'nftables.masqueradeBit'],
  'masquerade-all': ['iptables.masqueradeAll', 'nftables.masqueradeAll'],
  'iptables-localhost-nodeports': ['iptables.localhostNodePorts'],
  'iptables-sync-period': ['iptables.syncPeriod', 'nftables.syncPeriod'],
  'iptables-min-sync-period': ['iptables.minSyncPeriod', 'nftables.minSyncPeriod'],
  'ipvs-sync-period': ['ipvs.syncPeriod'],
  'ipvs-min-sync-period': ['ipvs.minSyncPeriod'],
  'ipvs-scheduler': ['ipvs.scheduler'],
  'ipvs-exclude-cidrs': ['ipvs.excludeCIDRs'],
  'ipvs-strict-arp': ['ipvs.strictARP'],
  'ipvs-tcp-timeout': ['ipvs.tcpTimeout'],
  'ipvs-tcpfin-timeout': ['ipvs.tcpFinTimeout'],
  'ipvs-udp-timeout': ['ipvs.udpTimeout'],
  'detect-local-mode': ['detectLocalMode'],
  'pod-bridge-interface': ['detectLocal.bridgeInterface'],
  'pod-interface-name-prefix': ['detectLocal.interfaceNamePrefix'],
  'cluster-cidr': ['clusterCIDR'],
  'nodeport-addresses': ['nodePortAddresses'],
  'oom-score-adj': ['oomScoreAdj'],
  'conntrack-max-per-core': ['conntrack.maxPerCore'],
  'conntrack-min': ['conntrack.min'],
  'conntrack-tcp-timeout-established': ['conntrack.tcpEstablishedTimeout'],
  'conntrack-tcp-timeout-close-wait': ['conntrack.tcpCloseWaitTimeout'],
  'conntrack-tcp-be-liberal': ['conntrack.tcpBeLiberal'],
  'conntrack-udp-timeout': ['conntrack.udpTimeout'],
  'conntrack-udp-timeout-stream': ['conntrack.udpStreamTimeout'],
  'feature-gates': ['featureGates'],
  'config-sync-period': ['configSyncPeriod'],
  'logging-format': ['logging.format'],
  v: ['logging.verbosity'],
  'log-flush-frequency': ['logging.flushFrequency'],
  vmodule: ['logging.vmodule'],
  'log-text-split-stream': ['logging.options.text.splitStream'],
  'log-text-info-buffer-size': ['logging.options.text.infoBufferSize'],
  'log-json-split-stream': ['logging.options.json.splitStream'],
  'log-json-info-buffer-size': ['logging.options.json.infoBufferSize'],
};

const IDLE = idleNames(KUBE_PROXY_FLAGS);

/** Those that count beside `--config` although they have a field there. */
const BESIDE_CONFIG: readonly string[] = ['node-name', 'logging-format', 'v'];

/** The deprecated ports; 0 stands for no endpoint at all. */
const PORT_FLAGS = { 'healthz-port': 'healthz-bind-address', 'metrics-port': 'metrics-bind-address' } as const;

/** The values that the flags give, by field. Throws UsageError for one that cannot be read. */
function readFlags(args: Arguments, wanted: (flag: string) => boolean): Map<FieldPath, unknown> {
  const values = new Map<FieldPath, unknown>();
  for (const flag of args.given) {
    if (!wanted(flag)) continue;
    const text = (args.list(flag) ?? []).join(',');
    for (const path of FLAG_FIELDS[flag] ?? []) {
      const leaf = LEAVES.get(path);
      const value = leaf?.readText(text);
      if (!leaf || value === undefined) throw new UsageError(`flag --${flag} must be ${leaf?.wants}, not "${text}"`);
      if (!leaf.isUnset(value)) values.set(path, value);
    }
  }
  return values;
}

/** The configuration that the flags stand for, when there is no file. Throws UsageError. */
export function configurationFromFlags(args: Arguments): KubeProxyConfiguration {
  const values = readFlags(args, () => true);
  for (const [flag, addressFlag] of Object.entries(PORT_FLAGS)) {
    const text = args.text(flag);
    if (text === undefined) continue;
    const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
    if (!(port <= 65535)) throw new UsageError(`flag --${flag} is a port from 0 (none) to 65535, not "${text}"`);
    const path = FLAG_FIELDS[addressFlag]?.[0] ?? '';
    const given = values.get(path) ?? LEAVES.get(path)?.fallback;
    const listen = parseListen(String(given), port);
    if (listen && (port === 0 || !args.given.includes(addressFlag))) {
      values.set(path, port === 0 ? '' : hostPort(listen.address, port));
    }
  }
  const configuration = configurationOf(values);
  const [problem] = validate(configuration);
  if (problem) throw new UsageError(`${flagOf(problem.path, args.given)}: ${problem.message}`);
  return configuration;
}

/** A file's configuration with the flags that count beside it. Throws UsageError. */
export function withFlagsBeside(configuration: KubeProxyConfiguration, args: Arguments): KubeProxyConfiguration {
  const values = readFlags(args, (flag) => BESIDE_CONFIG.includes(flag));
  const ofFile = [...LEAVES.keys()].map((path) => [path, valueAt(configuration, path)] as const);
  return configurationOf(new Map([...ofFile, ...values]));
}

/** The flags that were given and do nothing, as they are written: for want of a meaning here, or as a file says what counts. */
export function idleFlags(
  args: Arguments,
  hasFile: boolean,
): { readonly meaningless: readonly string[]; readonly overruled: readonly string[] } {
  const meaningless = args.given.filter((flag) => IDLE.includes(flag));
  const overruled = args.given.filter(
    (flag) =>
      hasFile &&
      !IDLE.includes(flag) &&
      !BESIDE_CONFIG.includes(flag) &&
      (flag in FLAG_FIELDS || Object.hasOwn(PORT_FLAGS, flag)),
  );
  return { meaningless: meaningless.map((flag) => `--${flag}`), overruled: overruled.map((flag) => `--${flag}`) };
}

function flagOf(path: FieldPath, given: readonly string[]): string {
  const sets = (flag: string): boolean => FLAG_FIELDS[flag]?.includes(path) ?? false;
  const flag = given.find(sets) ?? Object.keys(FLAG_FIELDS).find(sets);
  return flag === undefined ? path : `flag --${flag}`;
}
