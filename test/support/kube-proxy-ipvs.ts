// What kube-proxy 1.36 has in a node's kernel in IPVS mode for one Service with a ClusterIP and a NodePort: its link, sets, virtual servers and
// chains. It runs with IPv4 alone here.

import type { KubeProxyService } from './kube-proxy-rules.ts';

type Jump = readonly [table: string, from: string, rule: string];

export interface IpvsText {
  /** Addresses of kube-ipvs0. */
  readonly addresses: readonly string[];
  /** For `ipset restore`. */
  readonly sets: string;
  /** For `ipvsadm --restore`, but for what is there. */
  readonly servers: readonly string[];
  readonly jumps: readonly Jump[];
  /** For `iptables-restore --noflush`. */
  readonly chains: string;
}

const HASHED = {
  'LOOP-BACK': 'hash:ip,port,ip',
  'CLUSTER-IP': 'hash:ip,port',
  'EXTERNAL-IP': 'hash:ip,port',
  'EXTERNAL-IP-LOCAL': 'hash:ip,port',
  'LOAD-BALANCER': 'hash:ip,port',
  'LOAD-BALANCER-LOCAL': 'hash:ip,port',
  'LOAD-BALANCER-FW': 'hash:ip,port',
  'LOAD-BALANCER-SOURCE-IP': 'hash:ip,port,ip',
  'LOAD-BALANCER-SOURCE-CIDR': 'hash:ip,port,net',
  'NODE-PORT-SCTP-HASH': 'hash:ip,port',
  'NODE-PORT-LOCAL-SCTP-HASH': 'hash:ip,port',
  'IPVS-IPS': 'hash:ip',
};
const BITMAPS = [
  'NODE-PORT-TCP',
  'NODE-PORT-LOCAL-TCP',
  'NODE-PORT-UDP',
  'NODE-PORT-LOCAL-UDP',
  'HEALTH-CHECK-NODE-PORT',
];

const JUMPS: readonly Jump[] = [
  ['nat', 'OUTPUT', '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'],
  ['nat', 'PREROUTING', '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'],
  ['nat', 'POSTROUTING', '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'],
  ['filter', 'FORWARD', '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'],
  ['filter', 'INPUT', '-m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT'],
  ['filter', 'INPUT', '-m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL'],
  ['filter', 'FORWARD', '-m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL'],
  ['filter', 'INPUT', '-m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER'],
  ['filter', 'OUTPUT', '-m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER'],
];

export function ipvsText({ clusterIP, nodePort, endpoints, nodeIp, podCIDR }: KubeProxyService): IpvsText {
  const places = [`${clusterIP}:80`, `${nodeIp}:${nodePort}`];
  const entries = [
    `KUBE-CLUSTER-IP ${clusterIP},tcp:80`,
    `KUBE-IPVS-IPS ${clusterIP}`,
    `KUBE-NODE-PORT-TCP ${nodePort}`,
    ...endpoints.map((endpoint) => {
      const [ip = '', port = ''] = endpoint.split(':');
      return `KUBE-LOOP-BACK ${ip},tcp:${port},${ip}`;
    }),
  ];
  const sets = [
    ...Object.entries(HASHED).map(
      ([name, type]) => `create KUBE-${name} ${type} family inet hashsize 1024 maxelem 65536`,
    ),
    ...BITMAPS.map((name) => `create KUBE-${name} bitmap:port range 0-65535`),
    ...entries.map((entry) => `add ${entry}`),
  ];
  const servers = places.flatMap((place) => [
    `-A -t ${place} -s rr`,
    ...endpoints.map((endpoint) => `-a -t ${place} -r ${endpoint} -m -w 1`),
  ]);
  return {
    addresses: [clusterIP],
    sets: `${sets.join('\n')}\n`,
    servers,
    jumps: JUMPS,
    chains: chainsText(podCIDR),
  };
}

function chainsText(podCIDR: string): string {
  return `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst ! -s ${podCIDR} -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT
`;
}
