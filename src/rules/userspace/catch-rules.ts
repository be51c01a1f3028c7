// The rules that lead Service addresses which are not this machine's to the relays: text for nft and for iptables-restore. Pure.

import { hostPort, ipFamily, type Ip, type IpFamily } from '../../lib/ip.ts';
import { nftFamily } from '../nftables/layout.ts';

/** What clients send to, and the relay's own socket that it is led to. */
export interface CaughtAddress {
  readonly protocol: 'TCP' | 'UDP';
  readonly address: Ip;
  readonly port: number;
  readonly relay: { readonly ip: Ip; readonly port: number };
}

/** A table of its own in nftables; in iptables the chains below. */
export const CATCH_TABLE = 'fairlead-userspace';

/** A chain of iptables, and which chain calls it. */
export interface CatchChain {
  readonly table: 'nat' | 'filter';
  readonly name: string;
  readonly calledFrom: readonly string[];
}

const LEAD = 'FAIRLEAD-USERSPACE';
const LEAD_BACK = 'FAIRLEAD-USERSPACE-BACK';
/** Each holds a rule for each address. */
export const CATCH_CHAINS: readonly [CatchChain, ...CatchChain[]] = [
  { table: 'nat', name: LEAD, calledFrom: ['PREROUTING', 'OUTPUT'] },
  { table: 'nat', name: LEAD_BACK, calledFrom: ['POSTROUTING'] },
  { table: 'filter', name: LEAD, calledFrom: ['INPUT'] },
];

/**
 * Replaces the table in one transaction. It stands before the chains of other modes (dstnat is -100, srcnat 100), so that it takes over from them the
 * moment that it is there. A relay's socket answers what was led to it, and nobody who finds its port.
 *
 * A connection goes on when conntrack has lost its entry: the client's next packet is led here as its first was, and the relay's next is given the
 * Service address as its source. IPVS makes conntrack lose entries: with a connection that it forgets (120 s after its end, or when its virtual server
 * is deleted) goes whatever stands now between the same addresses and ports (ip_vs_conn_drop_conntrack), and clients use ports again before that.
 */
export function renderCatchTable(all: readonly CaughtAddress[], family: IpFamily): string {
  const caught = all.filter(({ address }) => ipFamily(address) === family);
  const table = `${nftFamily(family)} ${CATCH_TABLE}`;
  const drop = `add table ${table}\ndelete table ${table}\n`;
  if (caught.length === 0) return drop;
  const [ip, type] = family === 4 ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
  const lead = `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @relays`;
  const relays = caught.map(
    ({ protocol, address, port, relay }) => `${keyOf(protocol, address, port)} : ${relay.ip} . ${relay.port}`,
  );
  const services = caught.map(
    ({ protocol, address, port, relay }) => `${keyOf(protocol, relay.ip, relay.port)} : ${address} . ${port}`,
  );
  // The keys of `services`: a set of their own, as older kernels (6.1) refuse to look a packet up in a map without taking its value.
  const sockets = caught.map(({ protocol, relay }) => keyOf(protocol, relay.ip, relay.port));
  return `${drop}table ${table} {
  comment "relays of fairlead --mode userspace"
  map relays {
    type ${type} . inet_proto . inet_service : ${type} . inet_service
    elements = { ${relays.join(', ')} }
  }
  map services {
    type ${type} . inet_proto . inet_service : ${type} . inet_service
    elements = { ${services.join(', ')} }
  }
  set sockets {
    type ${type} . inet_proto . inet_service
    elements = { ${sockets.join(', ')} }
  }
  chain prerouting {
    type nat hook prerouting priority -101; policy accept;
    ${lead}
  }
  chain output {
    type nat hook output priority -101; policy accept;
    ${lead}
  }
  chain postrouting {
    type nat hook postrouting priority 99; policy accept;
    snat ${ip} to ${ip} saddr . meta l4proto . th sport map @services
  }
  chain input {
    type filter hook input priority 0; policy accept;
    ct status dnat accept
    ct direction reply accept
    ${ip} daddr . meta l4proto . th dport @sockets drop
  }
}
`;
}

function keyOf(protocol: CaughtAddress['protocol'], ip: Ip, port: number): string {
  return `${ip} . ${protocol.toLowerCase()} . ${port}`;
}

/** For `iptables-restore --noflush` of the family: the contents of our chains, whatever was in them. */
export function renderCatchChains(all: readonly CaughtAddress[], family: IpFamily): string {
  const nat: string[] = [];
  const filter: string[] = [];
  for (const { protocol, address, port, relay } of all) {
    if (ipFamily(address) !== family) continue;
    const l4proto = protocol.toLowerCase();
    nat.push(
      `-A ${LEAD} -d ${address} -p ${l4proto} --dport ${port} -j DNAT --to-destination ${hostPort(relay.ip, relay.port)}\n`,
    );
    nat.push(
      `-A ${LEAD_BACK} -s ${relay.ip} -p ${l4proto} --sport ${relay.port} -j SNAT --to-source ${hostPort(address, port)}\n`,
    );
    filter.push(
      `-A ${LEAD} -d ${relay.ip} -p ${l4proto} --dport ${relay.port} -m conntrack ! --ctstate DNAT --ctdir ORIGINAL -j DROP\n`,
    );
  }
  const head = `*nat\n:${LEAD} - [0:0]\n:${LEAD_BACK} - [0:0]\n`;
  return [head, ...nat, `COMMIT\n*filter\n:${LEAD} - [0:0]\n`, ...filter, 'COMMIT\n'].join('');
}
