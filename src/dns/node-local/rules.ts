// The rules of a node's own DNS server: what goes to it and comes from it is kept out of connection tracking, so that a burst of queries neither
// fills the table nor races in it, and so that no rule of a Service sends it elsewhere. Pure.

import { ipFamily, type Ip } from '../../lib/ip.ts';

export const NODE_LOCAL_TABLE = 'fairlead-node-local';

export interface NodeLocalRules {
  readonly ips: readonly Ip[];
  /** Of health, whose probes come from the node itself. */
  readonly healthPort: number;
}

const DNS_PORT = 53;

/** One transaction for `nft -f`, that makes the table as it should be, whatever is there. */
export function renderRules({ ips, healthPort }: NodeLocalRules): string {
  const rules = (direction: 'daddr' | 'saddr', port: 'dport' | 'sport'): readonly string[] =>
    ([4, 6] as const).flatMap((family) => {
      const own = ips.filter((ip) => ipFamily(ip) === family);
      if (own.length === 0) return [];
      const match = `${family === 4 ? 'ip' : 'ip6'} ${direction} { ${own.join(', ')} }`;
      return [
        `${match} meta l4proto { tcp, udp } th ${port} ${DNS_PORT} notrack`,
        `${match} tcp ${port} ${healthPort} notrack`,
      ];
    });
  const chain = (name: string, hook: string, lines: readonly string[]): readonly string[] => [
    `  chain ${name} {`,
    `    type filter hook ${hook} priority raw; policy accept;`,
    ...lines.map((line) => `    ${line}`),
    '  }',
  ];
  return [
    `add table inet ${NODE_LOCAL_TABLE}`,
    `delete table inet ${NODE_LOCAL_TABLE}`,
    `table inet ${NODE_LOCAL_TABLE} {`,
    ...chain('prerouting', 'prerouting', rules('daddr', 'dport')),
    ...chain('output', 'output', [...rules('daddr', 'dport'), ...rules('saddr', 'sport')]),
    '}',
    '',
  ].join('\n');
}
