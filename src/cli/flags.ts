// Every flag, once: its name, what it takes, which commands have it, and its line in the help.

import { INGRESS_FLAGS } from './ingress-flags.ts';
import { KUBE_PROXY_FLAGS } from './kube-proxy-flags.ts';
import { NODE_LOCAL_FLAGS } from './node-local-flags.ts';

export const COMMANDS = [
  'up',
  'proxy',
  'dns',
  'ingress',
  'render',
  'state',
  'explain',
  'trace',
  'completion',
  'cleanup',
  'version',
  'help',
] as const;
export type Command = (typeof COMMANDS)[number];

/** Words that a command takes beside flags, as its usage line shows them; the others take none. */
export const OPERANDS: Partial<Readonly<Record<Command, string>>> = {
  explain: 'service NAMESPACE/NAME|ingress URL',
  trace: 'SRC DST:PORT/PROTO',
  completion: 'bash|zsh|fish',
};

export type FlagKind = 'text' | 'switch' | 'list';

export interface Flag {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** `text` takes one value, the last one counts; `list` may be repeated or hold commas; `switch` is true, or `=false`. */
  readonly kind: FlagKind;
  readonly value?: string;
  readonly help: string;
  readonly commands: readonly Command[];
  /** As the help prints it. What applies where none is given stands in `settings.ts`. */
  readonly fallback?: string;
}

const RUN: readonly Command[] = ['up', 'proxy', 'dns', 'ingress'];
const ASK: readonly Command[] = ['explain', 'trace'];
const SOURCE: readonly Command[] = [...RUN, 'render', 'state', ...ASK];
const ROUTES: readonly Command[] = ['up', 'ingress', 'explain'];
const RULES: readonly Command[] = ['up', 'proxy', 'render', 'trace'];

export const FLAGS: readonly Flag[] = [
  {
    name: 'manifests',
    kind: 'list',
    value: 'DIR',
    help: 'read objects from a folder of manifests, and watch it; may be repeated',
    commands: SOURCE,
  },
  {
    name: 'kubeconfig',
    kind: 'text',
    value: 'FILE',
    help: 'reach the API server as this file says; without it and without --manifests, in-cluster',
    commands: RUN,
  },
  {
    name: 'master',
    aliases: ['apiserver-host'],
    kind: 'text',
    value: 'URL',
    help: 'address of the API server; overrides the one in the kubeconfig',
    commands: RUN,
  },
  {
    name: 'node-name',
    aliases: ['hostname-override'],
    kind: 'text',
    value: 'NAME',
    help: 'the Node that this machine is',
    commands: SOURCE,
    fallback: 'the host name',
  },
  {
    name: 'mode',
    aliases: ['proxy-mode'],
    kind: 'text',
    value: 'MODE',
    help: 'auto (nftables, else iptables), nftables, iptables, ipvs or userspace',
    commands: RULES,
    fallback: 'up: userspace; proxy: auto; render, trace: nftables',
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
    fallback: 'up: false; proxy: true',
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
    fallback: 'what the limit of open files allows',
  },
  {
    name: 'userspace-max-buffered-mib',
    kind: 'text',
    value: 'MIB',
    help: 'userspace mode: reset new TCP connections while more than this waits in the relays for slow readers',
    commands: ['up', 'proxy'],
    fallback: '256',
  },
  {
    name: 'service-cluster-ip-range',
    kind: 'list',
    value: 'CIDR',
    help: 'with --manifests: where ClusterIPs are taken from for Services that name none',
    commands: SOURCE,
    fallback: '127.96.0.0/16',
  },
  {
    name: 'service-node-port-range',
    kind: 'text',
    value: 'FROM-TO',
    help: 'with --manifests: where NodePorts are taken from for Services that name none',
    commands: SOURCE,
    fallback: '30000-32767',
  },
  {
    name: 'cluster-domain',
    kind: 'text',
    value: 'NAME',
    help: 'the DNS zone of the cluster',
    commands: ['up', 'dns', 'explain'],
    fallback: 'cluster.local',
  },
  {
    name: 'upstream',
    kind: 'list',
    value: 'IP[:PORT]',
    help: 'ask these servers for names outside the cluster',
    commands: ['up', 'dns'],
    fallback: 'those of /etc/resolv.conf',
  },
  {
    name: 'dns-bind-address',
    kind: 'list',
    value: 'IP:PORT',
    help: 'where DNS answers; port 0 lets the kernel choose',
    commands: ['up', 'dns'],
    fallback: 'up: 127.0.0.1:1053; dns: 0.0.0.0:53 and [::]:53',
  },
  {
    name: 'workers',
    kind: 'text',
    value: 'N',
    help: 'threads that answer DNS queries; 0 answers on the main thread, with the least memory',
    commands: ['up', 'dns'],
    fallback: 'up: 0; dns: the number of CPUs',
  },
  {
    name: 'conf',
    kind: 'text',
    value: 'FILE',
    help: 'serve as this Corefile says',
    commands: ['dns'],
  },
  {
    name: 'pidfile',
    kind: 'text',
    value: 'FILE',
    help: 'hold the number of the process there while it runs',
    commands: ['dns'],
  },
  { name: 'quiet', kind: 'switch', help: 'do not log what is served at the start', commands: ['dns'] },
  { name: 'version', kind: 'switch', help: 'print the version', commands: ['dns', 'ingress'] },
  { name: 'plugins', kind: 'switch', help: 'print the plugins that a Corefile may name', commands: ['dns'] },
  {
    name: 'dns.port',
    aliases: ['p'],
    kind: 'text',
    value: 'PORT',
    help: 'DNS on this port of every address; with --conf, where the Corefile names no port',
    commands: ['dns'],
    fallback: '53',
  },
  {
    name: 'http-bind-address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'where HTTP is accepted',
    commands: ['up'],
    fallback: '127.0.0.1:8080',
  },
  {
    name: 'https-bind-address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'where HTTPS is accepted',
    commands: ['up'],
    fallback: '127.0.0.1:8443',
  },
  { name: 'http-port', kind: 'text', value: 'PORT', help: 'port for HTTP', commands: ['ingress'], fallback: '80' },
  { name: 'https-port', kind: 'text', value: 'PORT', help: 'port for HTTPS', commands: ['ingress'], fallback: '443' },
  {
    name: 'healthz-port',
    kind: 'text',
    value: 'PORT',
    help: 'port of /metrics and /healthz',
    commands: ['ingress'],
    fallback: '10254',
  },
  {
    name: 'ingress-class',
    kind: 'text',
    value: 'NAME',
    help: 'take Ingresses whose annotation kubernetes.io/ingress.class has this value',
    commands: ROUTES,
    fallback: 'nginx',
  },
  {
    name: 'controller-class',
    kind: 'text',
    value: 'NAME',
    help: 'take Ingresses whose IngressClass has this controller',
    commands: ROUTES,
    fallback: 'k8s.io/ingress-nginx',
  },
  {
    name: 'watch-ingress-without-class',
    kind: 'switch',
    help: 'take Ingresses without a class too',
    commands: ROUTES,
    fallback: 'true with --manifests',
  },
  {
    name: 'ingress-class-by-name',
    kind: 'switch',
    help: 'take Ingresses whose ingressClassName is the name of --ingress-class, whatever controller the IngressClass has',
    commands: ROUTES,
    fallback: 'false',
  },
  {
    name: 'watch-namespace',
    kind: 'text',
    value: 'NAMESPACE',
    help: 'take Ingresses of this namespace only, and read nothing of others',
    commands: ['ingress', 'explain'],
    fallback: 'all',
  },
  {
    name: 'configmap',
    kind: 'text',
    value: 'NS/NAME',
    help: "the ConfigMap with the settings of every Ingress, with ingress-nginx' keys; nothing is served until it is there",
    commands: ROUTES,
  },
  {
    name: 'annotations-prefix',
    kind: 'text',
    value: 'PREFIX',
    help: 'annotations with this prefix are settings',
    commands: ROUTES,
    fallback: 'nginx.ingress.kubernetes.io',
  },
  {
    name: 'default-backend-service',
    kind: 'text',
    value: 'NS/NAME',
    help: 'the Service that takes requests that no rule takes, on its first port',
    commands: ROUTES,
    fallback: 'none; 404',
  },
  {
    name: 'default-ssl-certificate',
    kind: 'text',
    value: 'NS/NAME',
    help: 'the Secret with the certificate for hosts that have none of their own',
    commands: ['up', 'ingress'],
    fallback: 'one made at start',
  },
  {
    name: 'disable-svc-external-name',
    kind: 'switch',
    help: 'never forward to a Service of type ExternalName; always so in this version',
    commands: ROUTES,
    fallback: 'true',
  },
  {
    name: 'conformance',
    kind: 'switch',
    help: "where ingress-nginx and the Ingress API differ, as the API: no redirect to the slash at the end of a rule's path, none to HTTPS",
    commands: ROUTES,
    fallback: 'true with --manifests',
  },
  {
    name: 'ssl-redirect',
    kind: 'switch',
    help: 'send HTTP requests for a host that has a certificate to HTTPS',
    commands: ROUTES,
    fallback: 'up: false; ingress: true',
  },
  {
    name: 'healthz-bind-address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'where /healthz, /livez and /readyz answer',
    commands: ['proxy'],
    fallback: '0.0.0.0:10256',
  },
  {
    name: 'metrics-bind-address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'where /metrics and /state answer (up: health and the status page too)',
    commands: ['up', 'proxy', 'dns'],
    fallback: '127.0.0.1:10249; dns: 127.0.0.1:9153',
  },
  {
    name: 'health-bind-address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'where /health answers',
    commands: ['dns'],
    fallback: '0.0.0.0:8080',
  },
  {
    name: 'ready-bind-address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'where /ready answers',
    commands: ['dns'],
    fallback: '0.0.0.0:8181',
  },
  {
    name: 'address',
    kind: 'text',
    value: 'IP:PORT',
    help: 'ask the process whose metrics address this is; without it and with --manifests, resolve the folder',
    commands: ['state', ...ASK],
    fallback: '127.0.0.1:10249',
  },
  {
    name: 'output',
    aliases: ['o'],
    kind: 'text',
    value: 'text|json',
    help: 'for people or for programs',
    commands: ASK,
    fallback: 'text',
  },
  {
    name: 'v',
    kind: 'text',
    value: 'N',
    help: 'how much to log; 4 and more for debugging',
    commands: [...SOURCE, 'cleanup'],
    fallback: '0',
  },
  {
    name: 'logging-format',
    kind: 'text',
    value: 'text|json',
    help: 'how to log',
    commands: [...SOURCE, 'cleanup'],
    fallback: 'text',
  },
  ...KUBE_PROXY_FLAGS,
  ...NODE_LOCAL_FLAGS,
  ...INGRESS_FLAGS,
];
