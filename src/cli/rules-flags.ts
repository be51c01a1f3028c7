// The flags of what rules do, for all commands that make or tell of them.

import type { Command, Flag } from './flag.ts';

const RULES: readonly Command[] = ['up', 'proxy', 'render', 'trace'];

export const RULES_FLAGS: readonly Flag[] = [
  {
    name: 'mode',
    aliases: ['proxy-mode'],
    kind: 'text',
    value: 'MODE',
    help: 'auto (nftables, else iptables), nftables, iptables, ipvs or userspace',
    commands: RULES,
    fallback: { up: 'userspace', proxy: 'auto', render: 'nftables', trace: 'nftables' },
  },
  {
    name: 'cluster-cidr',
    kind: 'list',
    value: 'CIDR',
    help: "the cluster's Pod addresses, one range or one of each family; what comes from elsewhere to a ClusterIP is masqueraded",
    commands: RULES,
  },
  {
    name: 'masquerade-all',
    kind: 'switch',
    help: 'masquerade everything that goes to a ClusterIP',
    commands: RULES,
  },
  {
    name: 'nodeport-addresses',
    kind: 'list',
    value: 'CIDR',
    help: 'answer NodePorts on the addresses of this node in these ranges; `primary` for its own address, `all` for every one',
    commands: [...RULES, 'explain'],
    fallback: 'primary; iptables: all',
  },
  {
    name: 'reset-tcp-to-deleted-endpoints',
    kind: 'switch',
    help: 'end TCP connections to endpoints that are gone, so that clients connect anew at once',
    commands: ['up', 'proxy'],
    fallback: 'false',
  },
  {
    name: 'userspace-catch-addresses',
    kind: 'switch',
    help: 'userspace mode, as root: lead Service addresses that are not of this machine to the relays, by rules in the kernel',
    commands: ['up', 'proxy'],
    fallback: { up: 'false', proxy: 'true' },
  },
  {
    name: 'userspace-proxy-protocol-to',
    kind: 'list',
    value: 'NS/NAME',
    help: "userspace mode: tell the endpoints of these Services the client's address by PROXY protocol v2 (TCP)",
    commands: ['up', 'proxy'],
  },
  {
    name: 'userspace-max-connections',
    kind: 'text',
    value: 'N',
    help: 'userspace mode: carry so many TCP connections at a time, reset further ones',
    commands: ['up', 'proxy'],
    fallback: 'what the limit of open files allows, 65536 at most',
  },
  {
    name: 'userspace-max-udp-flows',
    kind: 'text',
    value: 'N',
    help: 'userspace mode: carry so many UDP flows at a time; for each further one the longest silent ends before its time',
    commands: ['up', 'proxy'],
    fallback: '4096, or a third of the limit of open files',
  },
  {
    name: 'userspace-max-buffered-mib',
    kind: 'text',
    value: 'MIB',
    help: 'userspace mode: reset new TCP connections while more than this waits in the relays for slow readers',
    commands: ['up', 'proxy'],
    fallback: '256',
  },
];
