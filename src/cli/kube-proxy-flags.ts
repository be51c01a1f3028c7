// kube-proxy's flags that no other command has but for one of cleanup, in the order of `kube-proxy --help`. Which field of the configuration each one sets stands in
// `kube-proxy/from-flags.ts`.

import { flagOf, flagWithoutEffect, type Flag, type FlagKind } from './flag.ts';

const proxy = (kind: FlagKind, name: string, help: string, rest: Pick<Flag, 'value' | 'fallback'> = {}): Flag =>
  flagOf('proxy', kind, name, help, rest);

const nothing = (kind: FlagKind, name: string, value?: string): Flag => flagWithoutEffect('proxy', kind, name, value);

export const KUBE_PROXY_FLAGS: readonly Flag[] = [
  proxy(
    'text',
    'config',
    'a KubeProxyConfiguration file, followed while running; flags that have a field there do not count then, but for the name of the node and logging',
    { value: 'FILE' },
  ),
  proxy('text', 'write-config-to', 'write the configuration with all defaults to this file, and end', {
    value: 'FILE',
  }),
  proxy('switch', 'cleanup', 'remove everything that fairlead put into the kernel, and end'),
  proxy('switch', 'init-only', 'do what needs privileges (conntrack sysctls), and end'),
  proxy('switch', 'version', 'print the version, and end'),
  proxy(
    'text',
    'bind-address',
    "the node's own address, when the Node object is not to be asked; nothing is bound to it",
    {
      value: 'IP',
      fallback: '0.0.0.0: as the Node object says',
    },
  ),
  proxy('switch', 'bind-address-hard-fail', 'end when an address cannot be bound, instead of trying again', {
    fallback: 'false',
  }),
  proxy('text', 'healthz-port', 'deprecated: port of --healthz-bind-address; 0 for none', { value: 'PORT' }),
  proxy('text', 'metrics-port', 'deprecated: port of --metrics-bind-address; 0 for none', { value: 'PORT' }),
  proxy('text', 'iptables-masquerade-bit', 'the bit of the packet mark that asks for masquerading, in nftables too', {
    value: 'BIT',
    fallback: '14',
  }),
  proxy('switch', 'iptables-localhost-nodeports', 'NodePorts on 127.0.0.1 too (iptables mode)', { fallback: 'true' }),
  proxy(
    'text',
    'iptables-sync-period',
    'a change that waits for twice this time counts as unhealthy, in nftables too',
    {
      value: 'DURATION',
      fallback: '30s',
    },
  ),
  proxy('text', 'iptables-min-sync-period', 'the shortest time between two syncs, in nftables too', {
    value: 'DURATION',
    fallback: '10ms',
  }),
  proxy('text', 'ipvs-sync-period', 'a change that waits for twice this time counts as unhealthy, in ipvs mode', {
    value: 'DURATION',
    fallback: '30s',
  }),
  proxy('text', 'ipvs-min-sync-period', 'the shortest time between two syncs, in ipvs mode', {
    value: 'DURATION',
    fallback: '0s',
  }),
  proxy(
    'text',
    'ipvs-scheduler',
    'how IPVS chooses an endpoint: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, mh, sed, nq, …',
    {
      value: 'NAME',
      fallback: 'rr',
    },
  ),
  {
    name: 'ipvs-exclude-cidrs',
    kind: 'list',
    value: 'CIDR',
    help: 'virtual servers in these ranges are those of others and never removed',
    commands: ['proxy', 'cleanup'],
  },
  proxy('switch', 'ipvs-strict-arp', 'do not answer ARP for the addresses of Services (arp_ignore, arp_announce)', {
    fallback: 'false',
  }),
  proxy('text', 'ipvs-tcp-timeout', 'how long IPVS keeps an idle TCP connection; 0 leaves it as it is', {
    value: 'DURATION',
    fallback: '0s',
  }),
  proxy('text', 'ipvs-tcpfin-timeout', 'the same after a FIN', { value: 'DURATION', fallback: '0s' }),
  proxy('text', 'ipvs-udp-timeout', 'the same for flows of UDP', { value: 'DURATION', fallback: '0s' }),
  proxy(
    'text',
    'detect-local-mode',
    'how a Pod of this node is known: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix',
    {
      value: 'MODE',
      fallback: 'ClusterCIDR',
    },
  ),
  proxy('text', 'pod-bridge-interface', 'with --detect-local-mode BridgeInterface: the bridge that Pods are on', {
    value: 'NAME',
  }),
  proxy(
    'text',
    'pod-interface-name-prefix',
    'with --detect-local-mode InterfaceNamePrefix: how their interfaces begin',
    {
      value: 'PREFIX',
    },
  ),
  proxy('text', 'oom-score-adj', 'oom_score_adj of this process', { value: 'N', fallback: '-999' }),
  proxy('text', 'conntrack-max-per-core', 'connections to track for each CPU; 0 leaves the limit as it is', {
    value: 'N',
    fallback: '32768',
  }),
  proxy('text', 'conntrack-min', 'connections to track at least', { value: 'N', fallback: '131072' }),
  proxy(
    'text',
    'conntrack-tcp-timeout-established',
    'how long an idle TCP connection is tracked; 0 leaves it as it is',
    {
      value: 'DURATION',
      fallback: '24h0m0s',
    },
  ),
  proxy('text', 'conntrack-tcp-timeout-close-wait', 'the same for one that is half closed', {
    value: 'DURATION',
    fallback: '1h0m0s',
  }),
  proxy('switch', 'conntrack-tcp-be-liberal', 'track packets outside the TCP window too', { fallback: 'false' }),
  proxy('text', 'conntrack-udp-timeout', 'how long a UDP flow with packets one way is tracked; 0 leaves it as it is', {
    value: 'DURATION',
    fallback: '0s',
  }),
  proxy('text', 'conntrack-udp-timeout-stream', 'the same for packets both ways', {
    value: 'DURATION',
    fallback: '0s',
  }),
  nothing('text', 'feature-gates', 'NAME=BOOL'),
  nothing('text', 'kube-api-content-type', 'TYPE'),
  nothing('text', 'kube-api-burst', 'N'),
  nothing('text', 'kube-api-qps', 'N'),
  nothing('switch', 'profiling'),
  nothing('text', 'show-hidden-metrics-for-version', 'VERSION'),
  nothing('text', 'config-sync-period', 'DURATION'),
  nothing('text', 'log-flush-frequency', 'DURATION'),
  nothing('text', 'vmodule', 'PATTERNS'),
  nothing('switch', 'log-text-split-stream'),
  nothing('text', 'log-text-info-buffer-size', 'QUANTITY'),
  nothing('switch', 'log-json-split-stream'),
  nothing('text', 'log-json-info-buffer-size', 'QUANTITY'),
  nothing('text', 'boot-id-file', 'FILES'),
  nothing('text', 'machine-id-file', 'FILES'),
];
