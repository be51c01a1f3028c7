// What kube-proxy has in a node's kernel for one Service with a ClusterIP and a NodePort, in the shape of kube-proxy 1.36: for tests of taking
// over from it, and giving back.

import { createHash } from 'node:crypto';
import { endpointHash, servicePortHash } from '../../src/rules/iptables/names.ts';
import { ipvsText, type IpvsText } from './kube-proxy-ipvs.ts';
import type { Host } from './netns.ts';
import { ip } from './values.ts';

export interface KubeProxyService {
  /** `namespace/name`. */
  readonly name: string;
  /** Of its TCP port 80. */
  readonly portName: string;
  readonly clusterIP: string;
  readonly nodePort: number;
  /** `ip:port`, any number but none. */
  readonly endpoints: readonly string[];
  readonly nodeIp: string;
  readonly podCIDR: string;
}

export type KubeProxyMode = 'iptables' | 'nftables' | 'ipvs';

/** Writes the rules as kube-proxy does when it starts, over those of an earlier time. */
export async function writeKubeProxyRules(node: Host, mode: KubeProxyMode, service: KubeProxyService): Promise<void> {
  if (mode === 'nftables') {
    await fed(node, 'nft', ['-f', '-'], nftablesText(service));
    return;
  }
  if (mode === 'ipvs') {
    await writeIpvs(node, ipvsText(service));
    return;
  }
  await jump(node, JUMPS);
  await fed(node, 'iptables-restore', ['-w', '5', '--noflush', '--counters'], iptablesText(service));
}

/** Makes sure of every jump, the last one on top. */
async function jump(node: Host, jumps: readonly (readonly [string, string, string])[]): Promise<void> {
  const lines = jumps.map(([table, from, rule]) => {
    const tool = `iptables -w 5 -t ${table}`;
    return `${tool} -N ${target(rule)} 2>/dev/null\n${tool} -C ${from} ${rule} 2>/dev/null || ${tool} -I ${from} ${rule} || exit 1`;
  });
  await fed(node, 'sh', ['-c', lines.join('\n')]);
}

/** In kube-proxy's order: virtual servers before sets and chains. */
async function writeIpvs(node: Host, { addresses, servers, sets, jumps, chains }: IpvsText): Promise<void> {
  await node.exec.run('ip', ['link', 'add', 'kube-ipvs0', 'type', 'dummy']);
  for (const address of addresses) await node.exec.run('ip', ['addr', 'add', `${address}/32`, 'dev', 'kube-ipvs0']);
  const there = new Set((await node.run('ipvsadm', '--save', '--numeric')).split('\n'));
  const missing = servers.filter((line) => !there.has(line));
  await fed(node, 'ipvsadm', ['--restore'], missing.map((line) => `${line}\n`).join(''));
  await fed(node, 'ipset', ['-exist', 'restore'], sets);
  await jump(node, jumps);
  await fed(node, 'iptables-restore', ['-w', '5', '--noflush', '--counters'], chains);
}

async function fed(node: Host, file: string, args: readonly string[], input?: string): Promise<void> {
  const { exitCode, stderr } = await node.exec.run(file, args, input === undefined ? {} : { input });
  if (exitCode !== 0) throw new Error(`${file}: ${stderr}`);
}

function target(rule: string): string {
  return rule.slice(rule.lastIndexOf(' ') + 1);
}

const NEW = '-m conntrack --ctstate NEW -m comment --comment';
const JUMPS: readonly (readonly [string, string, string])[] = [
  ['filter', 'INPUT', `${NEW} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`],
  ['filter', 'FORWARD', `${NEW} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`],
  ['filter', 'INPUT', '-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS'],
  ['filter', 'FORWARD', `${NEW} "kubernetes service portals" -j KUBE-SERVICES`],
  ['filter', 'OUTPUT', `${NEW} "kubernetes service portals" -j KUBE-SERVICES`],
  ['filter', 'FORWARD', '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'],
  ['filter', 'INPUT', `${NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`],
  ['filter', 'OUTPUT', `${NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`],
  ['filter', 'FORWARD', `${NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`],
  ['nat', 'OUTPUT', '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'],
  ['nat', 'PREROUTING', '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'],
  ['nat', 'POSTROUTING', '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'],
];

function iptablesText({ name, portName, clusterIP, nodePort, endpoints, podCIDR }: KubeProxyService): string {
  const port = `${name}:${portName}`;
  const hash = servicePortHash(port, 'TCP');
  const places = endpoints.map((endpoint) => {
    const [address = '', number = ''] = endpoint.split(':');
    return { endpoint, chain: `KUBE-SEP-${endpointHash(port, 'TCP', ip(address), Number(number))}` };
  });
  const chains = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ', 'KUBE-PROXY-CANARY'];
  const own = [`KUBE-SVC-${hash}`, `KUBE-EXT-${hash}`, ...places.map(({ chain }) => chain)];
  const lines = [
    `-A KUBE-NODEPORTS -m comment --comment ${port} -m tcp -p tcp --dport ${nodePort} -j KUBE-EXT-${hash}`,
    `-A KUBE-SERVICES -m comment --comment "${port} cluster IP" -m tcp -p tcp -d ${clusterIP} --dport 80 -j KUBE-SVC-${hash}`,
    `-A KUBE-SVC-${hash} -m comment --comment "${port} cluster IP" -m tcp -p tcp -d ${clusterIP} --dport 80 ! -s ${podCIDR} -j KUBE-MARK-MASQ`,
    `-A KUBE-EXT-${hash} -m comment --comment "masquerade traffic for ${port} external destinations" -j KUBE-MARK-MASQ`,
    `-A KUBE-EXT-${hash} -j KUBE-SVC-${hash}`,
    ...places.flatMap(({ endpoint, chain }, index) => {
      const left = places.length - index;
      const share = left === 1 ? '' : ` -m statistic --mode random --probability ${(1 / left).toFixed(10)}`;
      return [
        `-A KUBE-SVC-${hash} -m comment --comment "${port} -> ${endpoint}"${share} -j ${chain}`,
        `-A ${chain} -m comment --comment ${port} -s ${endpoint.split(':')[0]} -j KUBE-MARK-MASQ`,
        `-A ${chain} -m comment --comment ${port} -m tcp -p tcp -j DNAT --to-destination ${endpoint}`,
      ];
    }),
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x004000/0x004000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x004000',
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x004000',
  ];
  return `*filter
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-PROXY-CANARY - [0:0]
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x004000/0x004000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
${[...chains, ...own].map((chain) => `:${chain} - [0:0]\n`).join('')}${lines.join('\n')}
COMMIT
`;
}

function nftablesText({ name, portName, clusterIP, nodePort, endpoints, nodeIp, podCIDR }: KubeProxyService): string {
  const full = `${name}/tcp/${portName}`;
  const digest = createHash('sha256').update(full).digest();
  const base = `${base32(digest).slice(0, 8)}-${full}`;
  const places = endpoints.map((endpoint, index) => `${index} : ${endpoint.replace(':', ' . ')}`).join(', ');
  // As one transaction in the place of what was there.
  return `add table ip kube-proxy
delete table ip kube-proxy
table ip kube-proxy {
  comment "rules for kube-proxy"
  set hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  set cluster-ips { type ipv4_addr; elements = { ${clusterIP} }; }
  set nodeport-ips { type ipv4_addr; elements = { ${nodeIp} }; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  chain filter-prerouting-pre-dnat { type filter hook prerouting priority -110; ct state new jump firewall-check; }
  chain filter-output-pre-dnat { type filter hook output priority -110; ct state new jump firewall-check; }
  chain filter-input { type filter hook input priority 0; ct state new jump nodeport-endpoints-check; ct state new jump service-endpoints-check; }
  chain filter-forward { type filter hook forward priority 0; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
  chain filter-output { type filter hook output priority 0; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
  chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
  chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain services {
    ip daddr @cluster-ips ip saddr != ${podCIDR} meta mark set meta mark or 0x00004000
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain masquerading {
    meta mark and 0x00004000 != 0 meta mark set meta mark xor 0x00004000 masquerade fully-random
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
  }
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain service-${base} { meta l4proto tcp dnat ip addr . port to numgen random mod ${endpoints.length} map { ${places} }; }
  chain external-${base} { meta mark set meta mark or 0x00004000; goto service-${base}; }
}
add element ip kube-proxy service-ips { ${clusterIP} . tcp . 80 : goto service-${base} }
add element ip kube-proxy service-nodeports { tcp . ${nodePort} : goto external-${base} }
`;
}

/** RFC 4648, upper case, without padding. */
function base32(bytes: Uint8Array): string {
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = '';
  for (const byte of bytes) bits += byte.toString(2).padStart(8, '0');
  return (bits.match(/.{5}/g) ?? []).map((five) => digits[Number.parseInt(five, 2)]).join('');
}
