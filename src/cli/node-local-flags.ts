// The flags of NodeLocal DNSCache (node-cache), which make `dns` the DNS server of one node. They count where --localip is given.

import { flagOf, type Flag, type FlagKind } from './flag.ts';

const node = (kind: FlagKind, name: string, help: string, rest: Pick<Flag, 'value' | 'fallback'> = {}): Flag =>
  flagOf('dns', kind, name, help, rest);

export const NODE_LOCAL_FLAGS: readonly Flag[] = [
  node('list', 'localip', "be this node's own DNS server, at these addresses", { value: 'IP' }),
  node('switch', 'setupinterface', 'node: put the addresses on an interface of their own', { fallback: 'true' }),
  node('text', 'interfacename', 'node: its name', { value: 'NAME', fallback: 'nodelocaldns' }),
  node('switch', 'setupiptables', 'node: keep DNS out of connection tracking, with nftables', { fallback: 'true' }),
  node('text', 'syncinterval', 'node: how often interface and rules are looked after', {
    value: 'SECONDS',
    fallback: '60',
  }),
  node('text', 'health-port', "node: the port of the Corefile's health, for the rules", {
    value: 'PORT',
    fallback: '8080',
  }),
  node('text', 'metrics-listen-address', 'node: metrics of interface and rules, and all others', {
    value: 'IP:PORT',
    fallback: '0.0.0.0:9353',
  }),
  node('switch', 'skipteardown', 'node: leave interface and rules in place at the end'),
  node('switch', 'reloadwithsignal', 'node: take a changed Corefile within --syncinterval, also without reload in it'),
  node('switch', 'setupebtables', 'node: not built; bridges hand their frames to --setupiptables', {
    fallback: 'false',
  }),
  node('text', 'basecorefile', 'node: a template of the Corefile, taken in its place where the file is there', {
    value: 'FILE',
    fallback: '/etc/coredns/Corefile.base',
  }),
  node('text', 'upstreamsvc', "node: the Service of the cluster's DNS servers, for the template", {
    value: 'NAME',
    fallback: 'kube-dns',
  }),
  node('text', 'kubednscm', 'node: the folder of the ConfigMap kube-dns (stubDomains, upstreamNameservers)', {
    value: 'DIR',
    fallback: '/etc/kube-dns',
  }),
];
