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

/** A table of its own in nftables; in iptables a chain of this name in `nat` and in `filter`. */
export const CATCH_TABLE = 'fairlead-userspace';
export const CATCH_CHAIN = 'FAIRLEAD-USERSPACE';

/**
 * Replaces the table in one transaction. It stands before the chains of other modes (dstnat is -100), so that it takes over from them the moment that it
 * is there. A relay's socket answers what was led to it, and nobody who finds its port.
 */
export function renderCatchTable(all: readonly CaughtAddress[], family: IpFamily): string {
  const caught = all.filter(({ address }) => ipFamily(address) === family);
  const table = `${nftFamily(family)} ${CATCH_TABLE}`;
  const drop = `add table ${table}\ndelete table ${table}\n`;
  if (caught.length === 0) return drop;
  const [ip, type] = family === 4 ? ['ip', 'ipv4_addr'] : ['ip6', 'ipv6_addr'];
  const lead = `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @relays`;
  const sockets = caught.map(({ protocol, relay }) => `${relay.ip} . ${protocol.toLowerCase()} . ${relay.port}`);
  const relays = caught.map(
    ({ protocol, address, port, relay }) =>
      `${address} . ${protocol.toLowerCase()} . ${port} : ${relay.ip} . ${relay.port}`,
  );
  return `${drop}table ${table} {
  comment "relays of fairlead --mode userspace"
  map relays {
    type ${type} . inet_proto . inet_service : ${type} . inet_service
    elements = { ${relays.join(', ')} }
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
  chain input {
    type filter hook input priority 0; policy accept;
    ct status dnat accept
    ${ip} daddr . meta l4proto . th dport @sockets drop
  }
}
`;
}

/** For `iptables-restore --noflush` of the family: the contents of our chains, whatever was in them. */
export function renderCatchChains(all: readonly CaughtAddress[], family: IpFamily): string {
  const caught = all.filter(({ address }) => ipFamily(address) === family);
  const nat = caught.map(
    ({ protocol, address, port, relay }) =>
      `-A ${CATCH_CHAIN} -d ${address} -p ${protocol.toLowerCase()} --dport ${port} -j DNAT --to-destination ${hostPort(relay.ip, relay.port)}\n`,
  );
  const filter = caught.map(
    ({ protocol, relay }) =>
      `-A ${CATCH_CHAIN} -d ${relay.ip} -p ${protocol.toLowerCase()} --dport ${relay.port} -m conntrack ! --ctstate DNAT -j DROP\n`,
  );
  return [
    `*nat\n:${CATCH_CHAIN} - [0:0]\n`,
    ...nat,
    `COMMIT\n*filter\n:${CATCH_CHAIN} - [0:0]\n`,
    ...filter,
    'COMMIT\n',
  ].join('');
}

/** Where the chain is called from: table and chain. */
export const CATCH_JUMPS: readonly (readonly [table: string, chain: string])[] = [
  ['nat', 'PREROUTING'],
  ['nat', 'OUTPUT'],
  ['filter', 'INPUT'],
];
