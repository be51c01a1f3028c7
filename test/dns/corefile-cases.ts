// Corefiles that are taken, with what is served then, and those that are refused: observed behaviour of CoreDNS 1.14.

export interface CorefileCase {
  readonly name: string;
  readonly corefile: string;
  /** `zone:port`; undefined when the file is refused. */
  readonly listen: readonly string[] | undefined;
}

export const COREFILE_CASES: readonly CorefileCase[] = [
  { name: 'minimal', corefile: '.:1053 {\n    whoami\n}\n', listen: ['.:1053'] },
  { name: 'only comment', corefile: '# nothing\n', listen: ['.:53'] },
  { name: 'brace glued to key', corefile: '.:1053{\n    whoami\n}\n', listen: undefined },
  {
    name: 'keys comma newline',
    corefile: 'a.test:1053,\nb.test:1053 {\n    whoami\n}\n',
    listen: ['a.test.:1053', 'b.test.:1053'],
  },
  { name: 'trailing comma then brace', corefile: 'a.test:1053, {\n    whoami\n}\n', listen: undefined },
  { name: 'unknown directive', corefile: '.:1053 {\n    nosuch\n}\n', listen: undefined },
  { name: 'comment inside', corefile: '.:1053 { # c1\n    # c2\n    whoami # c3\n}\n', listen: ['.:1053'] },
  { name: 'env var windows', corefile: '.:{%DCPORT%} {\n    whoami\n}\n', listen: ['.:1053'] },
  {
    name: 'snippet defined twice',
    corefile: '(s) {\n    whoami\n}\n(s) {\n    whoami\n}\n.:1053 {\n    import s\n}\n',
    listen: undefined,
  },
  { name: 'import missing file', corefile: '.:1053 {\n    import nofile.conf\n    whoami\n}\n', listen: undefined },
  {
    name: 'cidr v4 non octet',
    corefile: '10.0.0.0/27:1053 {\n    whoami\n}\n',
    listen: [
      '0.0.0.10.in-addr.arpa.:1053',
      '1.0.0.10.in-addr.arpa.:1053',
      '10.0.0.10.in-addr.arpa.:1053',
      '11.0.0.10.in-addr.arpa.:1053',
      '12.0.0.10.in-addr.arpa.:1053',
      '13.0.0.10.in-addr.arpa.:1053',
      '14.0.0.10.in-addr.arpa.:1053',
      '15.0.0.10.in-addr.arpa.:1053',
      '16.0.0.10.in-addr.arpa.:1053',
      '17.0.0.10.in-addr.arpa.:1053',
      '18.0.0.10.in-addr.arpa.:1053',
      '19.0.0.10.in-addr.arpa.:1053',
      '2.0.0.10.in-addr.arpa.:1053',
      '20.0.0.10.in-addr.arpa.:1053',
      '21.0.0.10.in-addr.arpa.:1053',
      '22.0.0.10.in-addr.arpa.:1053',
      '23.0.0.10.in-addr.arpa.:1053',
      '24.0.0.10.in-addr.arpa.:1053',
      '25.0.0.10.in-addr.arpa.:1053',
      '26.0.0.10.in-addr.arpa.:1053',
      '27.0.0.10.in-addr.arpa.:1053',
      '28.0.0.10.in-addr.arpa.:1053',
      '29.0.0.10.in-addr.arpa.:1053',
      '3.0.0.10.in-addr.arpa.:1053',
      '30.0.0.10.in-addr.arpa.:1053',
      '31.0.0.10.in-addr.arpa.:1053',
      '4.0.0.10.in-addr.arpa.:1053',
      '5.0.0.10.in-addr.arpa.:1053',
      '6.0.0.10.in-addr.arpa.:1053',
      '7.0.0.10.in-addr.arpa.:1053',
      '8.0.0.10.in-addr.arpa.:1053',
      '9.0.0.10.in-addr.arpa.:1053',
    ],
  },
  {
    name: 'cidr v4 /23 expands',
    corefile: '10.0.0.0/23:1053 {\n    whoami\n}\n',
    listen: ['0.0.10.in-addr.arpa.:1053', '1.0.10.in-addr.arpa.:1053'],
  },
  { name: 'key scheme dns', corefile: 'dns://.:1053 {\n    whoami\n}\n', listen: ['.:1053'] },
  { name: 'key scheme unknown', corefile: 'foo://.:1053 {\n    whoami\n}\n', listen: ['foo://.:1053'] },
  { name: 'missing close brace', corefile: '.:1053 {\n    whoami\n', listen: undefined },
  {
    name: 'plugin twice: forward',
    corefile: '.:1053 {\n    forward a.test 127.0.0.1:9\n    forward b.test 127.0.0.1:9\n}\n',
    listen: ['.:1053'],
  },
  {
    name: 'plugin twice: log',
    corefile: '.:1053 {\n    log a.test\n    log b.test\n    whoami\n}\n',
    listen: ['.:1053'],
  },
  {
    name: 'plugin twice: health',
    corefile: '.:1053 {\n    health :1056\n    health :1056\n    whoami\n}\n',
    listen: ['.:1053'],
  },
  {
    name: 'plugin twice: loadbalance',
    corefile: '.:1053 {\n    loadbalance\n    loadbalance\n    whoami\n}\n',
    listen: ['.:1053'],
  },
  {
    name: 'block brace must be on the directive line',
    corefile: '.:1053 {\n    health :1056\n    {\n        lameduck 5s\n    }\n    whoami\n}\n',
    listen: undefined,
  },
  { name: 'cache ttl 0', corefile: '.:1053 {\n    cache 0\n    whoami\n}\n', listen: undefined },
  {
    name: 'cache servfail over 5m',
    corefile: '.:1053 {\n    cache {\n        servfail 6m\n    }\n    whoami\n}\n',
    listen: undefined,
  },
  {
    name: 'forward 16 upstreams',
    corefile:
      '.:1053 {\n    forward . 127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6 127.0.0.7 127.0.0.8 127.0.0.9 127.0.0.10 127.0.0.11 127.0.0.12 127.0.0.13 127.0.0.14 127.0.0.15 127.0.0.16\n}\n',
    listen: undefined,
  },
  {
    name: 'forward old upstream option',
    corefile:
      '.:1053 {\n    forward . 127.0.0.1:9 {\n        max_concurrent 1000\n        policy sequential\n        prefer_udp\n        expire 10s\n        max_fails 2\n        health_check 5s no_rec domain example.test\n        next NXDOMAIN\n        failover SERVFAIL REFUSED\n    }\n}\n',
    listen: ['.:1053'],
  },
  { name: 'proxy is gone', corefile: '.:1053 {\n    proxy . /etc/resolv.conf\n}\n', listen: undefined },
  {
    name: 'federation is gone',
    corefile: '.:1053 {\n    federation cluster.local\n    whoami\n}\n',
    listen: undefined,
  },
  {
    name: 'resyncperiod gone from kubernetes',
    corefile: '.:1053 {\n    kubernetes cluster.local {\n        resyncperiod 5m\n    }\n}\n',
    listen: undefined,
  },
  {
    name: 'transfer option gone from kubernetes',
    corefile: '.:1053 {\n    kubernetes cluster.local {\n        transfer to *\n    }\n}\n',
    listen: undefined,
  },
  {
    name: 'kubernetes namespaces + namespace_labels',
    corefile:
      '.:1053 {\n    kubernetes cluster.local {\n        namespaces a\n        namespace_labels x=y\n    }\n}\n',
    listen: undefined,
  },
  {
    name: 'kubernetes multicluster zone not listed',
    corefile: '.:1053 {\n    kubernetes cluster.local {\n        multicluster clusterset.local\n    }\n}\n',
    listen: undefined,
  },
  {
    name: 'kubernetes twice',
    corefile:
      '.:1053 {\n    kubernetes a.local {\n        kubeconfig kc\n    }\n    kubernetes b.local {\n        kubeconfig kc\n    }\n}\n',
    listen: undefined,
  },
  { name: 'rewrite bad regex', corefile: '.:1053 {\n    rewrite name regex ( x\n    whoami\n}\n', listen: undefined },
];
