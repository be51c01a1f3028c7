// What a KubeProxyConfiguration may say, as kube-proxy's validation has it. Pure.

import { cidrFamily, parseCidr } from '../../lib/cidr.ts';
import { parseIp } from '../../lib/ip.ts';
import { parseListen } from '../listen-address.ts';
import { parseRulesMode } from '../rules-mode.ts';
import type { FieldPath, KubeProxyConfiguration } from './schema.ts';

export interface Problem {
  readonly path: FieldPath;
  /** Says what is wrong and what is right; reads on after "path: ". */
  readonly message: string;
}

const DETECT_LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const;

export function validate(configuration: KubeProxyConfiguration): readonly Problem[] {
  return [
    ...addresses(configuration),
    ...modes(configuration),
    ...syncPeriods(configuration),
    ...numbers(configuration),
    ...ranges(configuration),
  ];
}

function* addresses(configuration: KubeProxyConfiguration): Generator<Problem> {
  const { bindAddress, healthzBindAddress, metricsBindAddress } = configuration;
  if (!parseIp(bindAddress)) {
    yield { path: 'bindAddress', message: `"${bindAddress}" is no IP address; write 0.0.0.0, ::, or one of this node` };
  }
  for (const [path, value] of Object.entries({ healthzBindAddress, metricsBindAddress })) {
    if (value !== '' && !parseListen(value, 1)) {
      yield { path, message: `"${value}" is not IP:PORT, such as 127.0.0.1:10249 or [::]:10256` };
    }
  }
}

function* modes(configuration: KubeProxyConfiguration): Generator<Problem> {
  const { mode, detectLocalMode, detectLocal, logging } = configuration;
  if (mode === 'kernelspace') yield { path: 'mode', message: 'kernelspace is for Windows; write nftables' };
  else if (mode !== '' && parseRulesMode(mode) === undefined) {
    yield {
      path: 'mode',
      message: `"${mode}" is no mode; there is nftables, iptables, ipvs, userspace, auto, and "" for iptables as with kube-proxy`,
    };
  }
  if (!DETECT_LOCAL_MODES.some((known) => known === detectLocalMode)) {
    yield { path: 'detectLocalMode', message: `"${detectLocalMode}" is none of ${DETECT_LOCAL_MODES.join(', ')}` };
  }
  const needed = { BridgeInterface: 'bridgeInterface', InterfaceNamePrefix: 'interfaceNamePrefix' } as const;
  if (detectLocalMode === 'BridgeInterface' || detectLocalMode === 'InterfaceNamePrefix') {
    const name = needed[detectLocalMode];
    const value = detectLocal[name];
    if (!/^[^\s/"*+]{1,15}$/.test(value)) {
      yield {
        path: `detectLocal.${name}`,
        message: `detectLocalMode ${detectLocalMode} needs the name of a network interface here, of 15 characters at most, not "${value}"`,
      };
    }
  }
  if (logging.format !== 'text' && logging.format !== 'json') {
    yield { path: 'logging.format', message: `"${logging.format}" is neither text nor json` };
  }
}

function* syncPeriods(configuration: KubeProxyConfiguration): Generator<Problem> {
  for (const mode of ['iptables', 'ipvs', 'nftables'] as const) {
    const { syncPeriod, minSyncPeriod } = configuration[mode];
    if (syncPeriod < 0) yield { path: `${mode}.syncPeriod`, message: 'must be greater than 0' };
    if (minSyncPeriod < 0) yield { path: `${mode}.minSyncPeriod`, message: 'must not be negative' };
    if (minSyncPeriod > syncPeriod) {
      yield { path: `${mode}.minSyncPeriod`, message: `must not be longer than ${mode}.syncPeriod` };
    }
  }
  if (configuration.configSyncPeriod < 0) yield { path: 'configSyncPeriod', message: 'must be greater than 0' };
}

function* numbers(configuration: KubeProxyConfiguration): Generator<Problem> {
  const { iptables, nftables, oomScoreAdj, clientConnection, logging, conntrack, ipvs } = configuration;
  const between = function* (path: FieldPath, value: number, least: number, most: number): Generator<Problem> {
    if (value < least || value > most) yield { path, message: `must be from ${least} to ${most}, not ${value}` };
  };
  yield* between('iptables.masqueradeBit', iptables.masqueradeBit, 0, 31);
  yield* between('nftables.masqueradeBit', nftables.masqueradeBit, 0, 31);
  yield* between('oomScoreAdj', oomScoreAdj, -1000, 1000);
  const notNegative = {
    'clientConnection.burst': clientConnection.burst,
    'logging.verbosity': logging.verbosity,
    'conntrack.maxPerCore': conntrack.maxPerCore,
    'conntrack.min': conntrack.min,
    'conntrack.tcpEstablishedTimeout': conntrack.tcpEstablishedTimeout,
    'conntrack.tcpCloseWaitTimeout': conntrack.tcpCloseWaitTimeout,
    'conntrack.udpTimeout': conntrack.udpTimeout,
    'conntrack.udpStreamTimeout': conntrack.udpStreamTimeout,
    'ipvs.tcpTimeout': ipvs.tcpTimeout,
    'ipvs.tcpFinTimeout': ipvs.tcpFinTimeout,
    'ipvs.udpTimeout': ipvs.udpTimeout,
  };
  for (const [path, value] of Object.entries(notNegative)) {
    if (value < 0) yield { path, message: 'must not be negative' };
  }
}

function* ranges(configuration: KubeProxyConfiguration): Generator<Problem> {
  const { clusterCIDR, nodePortAddresses, ipvs } = configuration;
  if (!/^[a-z0-9]{0,15}$/.test(ipvs.scheduler.trim())) {
    yield {
      path: 'ipvs.scheduler',
      message: `"${ipvs.scheduler}" is no scheduler of IPVS; write rr, wrr, lc, sh, mh, …`,
    };
  }
  for (const word of ipvs.excludeCIDRs ?? []) {
    if (!parseCidr(word)) {
      yield { path: 'ipvs.excludeCIDRs', message: `"${word}" is no address range; write it as 192.168.0.0/16` };
    }
  }
  if (clusterCIDR !== '') {
    const parsed = clusterCIDR.split(',').map((part) => parseCidr(part.trim()));
    const families = parsed.map((cidr) => cidr && cidrFamily(cidr));
    if (parsed.includes(undefined)) {
      yield {
        path: 'clusterCIDR',
        message: `"${clusterCIDR}" is no address range; write 10.0.0.0/8, or 10.0.0.0/8,fd00::/64`,
      };
    } else if (families.length > 2 || new Set(families).size !== families.length) {
      yield { path: 'clusterCIDR', message: `takes one range, or one of each family; not ${clusterCIDR}` };
    }
  }
  const words = nodePortAddresses ?? [];
  for (const word of ['primary', 'all']) {
    if (words.includes(word) && words.length > 1) {
      yield { path: 'nodePortAddresses', message: `"${word}" stands alone, without ranges beside it` };
    }
  }
  for (const word of words) {
    if (word !== 'primary' && word !== 'all' && !parseCidr(word)) {
      yield {
        path: 'nodePortAddresses',
        message: `"${word}" is no address range; write it as 192.168.0.0/16, or the one word primary`,
      };
    }
  }
}
