// KubeProxyConfiguration `kubeproxy.config.k8s.io/v1alpha1`: every field once, with its default and what a change of it means. Flags, the
// file, `/configz` and `--write-config-to` are all made of this.

import { defaultRulesConfig } from '../../rules/config.ts';
import {
  anything,
  decimal,
  duration,
  durationOrNanoseconds,
  flagMap,
  integer,
  text,
  texts,
  yes,
  type Leaf,
} from './field.ts';

export const API_VERSION = 'kubeproxy.config.k8s.io/v1alpha1';
export const KIND = 'KubeProxyConfiguration';

const SECOND = 1000;
const HOUR = 3600 * SECOND;

/**
 * kube-proxy's default for `minSyncPeriod` is 1 s, as its syncs are long. Ours cost what has changed, so that nothing is won by
 * letting an endpoint that is gone stay for that time; whoever gives a value gets that.
 */
const MIN_SYNC_PERIOD = defaultRulesConfig.minSyncPeriodMs;

const logOptions = {
  splitStream: yes('none'),
  infoBufferSize: anything('none', '0', 'a quantity such as 64Ki'),
} as const;

export const SCHEMA = {
  featureGates: flagMap('none'),
  clientConnection: {
    kubeconfig: text('restart'),
    acceptContentTypes: text('none'),
    contentType: text('none', 'application/vnd.kubernetes.protobuf'),
    qps: decimal('none', 5),
    burst: integer('none', 10, 0),
  },
  logging: {
    format: text('live', 'text'),
    flushFrequency: durationOrNanoseconds('none', 5 * SECOND),
    verbosity: integer('live', 0),
    vmodule: anything('none', null, 'a list of file patterns'),
    options: { text: logOptions, json: logOptions },
  },
  hostnameOverride: text('restart'),
  bindAddress: text('restart', '0.0.0.0'),
  healthzBindAddress: text('restart', '0.0.0.0:10256'),
  metricsBindAddress: text('restart', '127.0.0.1:10249'),
  bindAddressHardFail: yes('restart'),
  enableProfiling: yes('none'),
  showHiddenMetricsForVersion: text('none'),
  mode: text('restart'),
  iptables: {
    masqueradeBit: integer('live', 14),
    masqueradeAll: yes('live'),
    localhostNodePorts: yes('restart', true),
    syncPeriod: duration('live', 30 * SECOND, 'is-unset'),
    minSyncPeriod: duration('live', MIN_SYNC_PERIOD, 'is-unset'),
  },
  ipvs: {
    syncPeriod: duration('live', 30 * SECOND, 'is-unset'),
    minSyncPeriod: duration('live', 0, 'is-a-value'),
    scheduler: text('live'),
    excludeCIDRs: texts('live'),
    strictARP: yes('live'),
    tcpTimeout: duration('live', 0, 'is-a-value'),
    tcpFinTimeout: duration('live', 0, 'is-a-value'),
    udpTimeout: duration('live', 0, 'is-a-value'),
  },
  nftables: {
    masqueradeBit: integer('live', 14),
    masqueradeAll: yes('live'),
    syncPeriod: duration('live', 30 * SECOND, 'is-unset'),
    minSyncPeriod: duration('live', MIN_SYNC_PERIOD, 'is-unset'),
  },
  winkernel: {
    networkName: text('none'),
    sourceVip: text('none'),
    enableDSR: yes('none'),
    rootHnsEndpointName: text('none'),
    forwardHealthCheckVip: yes('none'),
  },
  detectLocalMode: text('live', 'ClusterCIDR'),
  detectLocal: { bridgeInterface: text('live'), interfaceNamePrefix: text('live') },
  clusterCIDR: text('live'),
  nodePortAddresses: texts('live'),
  oomScoreAdj: integer('live', -999),
  conntrack: {
    maxPerCore: integer('live', 32_768),
    min: integer('live', 131_072),
    tcpEstablishedTimeout: duration('live', 24 * HOUR, 'is-a-value'),
    tcpCloseWaitTimeout: duration('live', HOUR, 'is-a-value'),
    tcpBeLiberal: yes('live'),
    udpTimeout: duration('live', 0, 'is-a-value'),
    udpStreamTimeout: duration('live', 0, 'is-a-value'),
  },
  configSyncPeriod: duration('none', 900 * SECOND, 'is-unset'),
  portRange: text('none'),
  windowsRunAsService: yes('none'),
} as const;

export type AnyLeaf = Leaf<unknown>;
export interface AnySection {
  readonly [name: string]: AnyLeaf | AnySection;
}

type ValueOf<N> = N extends Leaf<infer T> ? T : { readonly [K in keyof N]: ValueOf<N[K]> };

/** With every default filled in; durations in milliseconds. */
export type KubeProxyConfiguration = ValueOf<typeof SCHEMA>;

/** `iptables.masqueradeBit`. */
export type FieldPath = string;

/** Every field, by path. */
export const LEAVES: ReadonlyMap<FieldPath, AnyLeaf> = new Map(leavesOf(SCHEMA as unknown as AnySection, ''));

export function isLeaf(node: AnyLeaf | AnySection): node is AnyLeaf {
  return node['kind'] === 'leaf';
}

function* leavesOf(section: AnySection, prefix: string): Generator<readonly [FieldPath, AnyLeaf]> {
  for (const [name, node] of Object.entries(section)) {
    const path = `${prefix}${name}`;
    if (isLeaf(node)) yield [path, node];
    else yield* leavesOf(node, `${path}.`);
  }
}

/** Values by path → the configuration; fields that are not among them have their default. */
export function configurationOf(values: ReadonlyMap<FieldPath, unknown>): KubeProxyConfiguration {
  const filled = nest((path, { fallback }) => (values.has(path) ? values.get(path) : fallback));
  return familyDefaults(filled as KubeProxyConfiguration, values);
}

/** An IPv6 `bindAddress` moves the defaults of the two other addresses to IPv6 too. */
function familyDefaults(
  configuration: KubeProxyConfiguration,
  values: ReadonlyMap<FieldPath, unknown>,
): KubeProxyConfiguration {
  if (!configuration.bindAddress.includes(':')) return configuration;
  return {
    ...configuration,
    ...(values.has('healthzBindAddress') ? {} : { healthzBindAddress: '[::]:10256' }),
    ...(values.has('metricsBindAddress') ? {} : { metricsBindAddress: '[::1]:10249' }),
  };
}

export function valueAt(configuration: KubeProxyConfiguration, path: FieldPath): unknown {
  let value: unknown = configuration;
  for (const name of path.split('.')) value = (value as Readonly<Record<string, unknown>>)[name];
  return value;
}

/** As an object of the API, for `/configz` and `--write-config-to`. */
export function toJson(configuration: KubeProxyConfiguration): Readonly<Record<string, unknown>> {
  const fields = nest((path, leaf) => leaf.write(valueAt(configuration, path)));
  return { apiVersion: API_VERSION, kind: KIND, ...fields };
}

function nest(valueFor: (path: FieldPath, leaf: AnyLeaf) => unknown): Readonly<Record<string, unknown>> {
  const build = (section: AnySection, prefix: string): Readonly<Record<string, unknown>> =>
    Object.fromEntries(
      Object.entries(section).map(([name, node]) => {
        const path = `${prefix}${name}`;
        return [name, isLeaf(node) ? valueFor(path, node) : build(node, `${path}.`)];
      }),
    );
  return build(SCHEMA as unknown as AnySection, '');
}
