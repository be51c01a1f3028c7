import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { parseConfiguration, type ParsedConfiguration } from './parse.ts';
import { LEAVES, configurationOf, toJson, type KubeProxyConfiguration } from './schema.ts';

const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n';

function parse(body: string): ParsedConfiguration {
  return parseConfiguration('config.conf', `${HEAD}${body}`);
}

function good(body: string): KubeProxyConfiguration {
  const parsed = parse(body);
  if (parsed.kind === 'wrong') throw new Error(parsed.problems.join('\n'));
  return parsed.configuration;
}

/** As kubeadm writes it: every field, with zero values. */
const KUBEADM = `bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
`;

describe('a file of kubeadm', () => {
  test('its zero values stand for the defaults', () => {
    const { clusterCIDR, clientConnection, ...rest } = good(KUBEADM);
    const defaults = configurationOf(new Map());
    expect(clusterCIDR).toBe('10.244.0.0/16');
    expect(clientConnection).toEqual({
      ...defaults.clientConnection,
      kubeconfig: '/var/lib/kube-proxy/kubeconfig.conf',
    });
    expect({ ...defaults, ...rest, clusterCIDR: '', clientConnection: defaults.clientConnection }).toEqual(defaults);
  });

  test('the defaults are those of kube-proxy', () => {
    expect(toJson(good(''))).toMatchObject({
      healthzBindAddress: '0.0.0.0:10256',
      metricsBindAddress: '127.0.0.1:10249',
      configSyncPeriod: '15m0s',
      nftables: { masqueradeBit: 14, syncPeriod: '30s' },
      conntrack: { maxPerCore: 32768, min: 131072, tcpEstablishedTimeout: '24h0m0s', tcpCloseWaitTimeout: '1h0m0s' },
      oomScoreAdj: -999,
      nodePortAddresses: null,
    });
  });

  test('an IPv6 bindAddress moves the other defaults to IPv6', () => {
    expect(good('bindAddress: "::"\n')).toMatchObject({
      healthzBindAddress: '[::]:10256',
      metricsBindAddress: '[::1]:10249',
    });
  });

  test('a pointer that is 0 is 0: conntrack is left as it is', () => {
    expect(good('conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}\n').conntrack).toMatchObject({
      maxPerCore: 0,
      min: 0,
      tcpEstablishedTimeout: 0,
    });
  });

  test('what is written is read again, every field', () => {
    const first = good(`${KUBEADM}featureGates: {A: true}\n`);
    const again = parseConfiguration('again', stringify(toJson(first)));
    expect(again).toMatchObject({ kind: 'configuration', configuration: first });
    expect(LEAVES.size).toBe(60);
  });
});

describe('what is wrong is told with file, line and the mend', () => {
  test.each([
    [
      'an unknown field',
      'iptables:\n  masqueradBit: 3\n',
      'config.conf:4: iptables.masqueradBit: unknown field; did you mean masqueradeBit?',
    ],
    [
      'a field of another place',
      'masqueradeBit: 3\n',
      'config.conf:3: masqueradeBit: unknown field; it stands at iptables.masqueradeBit and nftables.masqueradeBit',
    ],
    [
      'a name in other letters',
      'clustercidr: 10.0.0.0/8\n',
      'config.conf:3: clustercidr: unknown field; did you mean clusterCIDR?',
    ],
    [
      'a field twice',
      'mode: nftables\nclusterCIDR: ""\nmode: iptables\n',
      'config.conf:5: mode: the field stands twice; remove one',
    ],
    ['a wrong type', 'conntrack:\n  min: many\n', 'config.conf:4: conntrack.min: must be a whole number, not "many"'],
    [
      'a number for a duration',
      'nftables:\n  syncPeriod: 30\n',
      'config.conf:4: nftables.syncPeriod: must be a duration such as 30s or 1h0m0s, not 30',
    ],
    ['no object', 'iptables: 3\n', 'config.conf:3: iptables: must be an object, not 3'],
    [
      'a bad range',
      'clusterCIDR: 10.0.0.0\n',
      'config.conf:3: clusterCIDR: "10.0.0.0" is no address range; write 10.0.0.0/8, or 10.0.0.0/8,fd00::/64',
    ],
    [
      'two ranges of a family',
      'clusterCIDR: 10.0.0.0/8,11.0.0.0/8\n',
      'config.conf:3: clusterCIDR: takes one range, or one of each family; not 10.0.0.0/8,11.0.0.0/8',
    ],
    [
      'primary and a range',
      'nodePortAddresses: [primary, 10.0.0.0/8]\n',
      'config.conf:3: nodePortAddresses: "primary" stands alone, without ranges beside it',
    ],
    ['a mode', 'mode: ebpf\n', /config.conf:3: mode: "ebpf" is no mode/],
    ['a Windows mode', 'mode: kernelspace\n', /for Windows/],
    [
      'a bridge without a name',
      'detectLocalMode: BridgeInterface\n',
      /detectLocal.bridgeInterface: detectLocalMode BridgeInterface needs/,
    ],
    ['a bit', 'nftables: {masqueradeBit: 32}\n', 'config.conf:3: nftables.masqueradeBit: must be from 0 to 31, not 32'],
    ['a minimum above the period', 'nftables: {syncPeriod: 1s, minSyncPeriod: 2s}\n', /must not be longer/],
    ['an address', 'healthzBindAddress: localhost:1\n', /healthzBindAddress: "localhost:1" is not IP:PORT/],
    ['no YAML', 'mode: [\n', /config.conf:\d+: not valid YAML/],
    ['a second document', '---\nkind: X\n', /config.conf:4: a second document/],
  ])('%s', (_what, body, message) => {
    const parsed = parse(body);
    const [first = ''] = parsed.kind === 'wrong' ? parsed.problems : [];
    expect(first).toMatch(message);
  });

  test('all of it at once', () => {
    const parsed = parse('modus: x\nconntrak: {}\n');
    expect(parsed).toMatchObject({ kind: 'wrong', problems: { length: 2 } });
  });

  test('another kind, another version, nothing', () => {
    expect(parseConfiguration('f', 'apiVersion: v1\nkind: ConfigMap\n')).toMatchObject({
      problems: ['f:2: kind: must be KubeProxyConfiguration, not "ConfigMap"'],
    });
    expect(parseConfiguration('f', 'apiVersion: v2\nkind: KubeProxyConfiguration\n')).toMatchObject({
      problems: ['f:1: apiVersion: must be kubeproxy.config.k8s.io/v1alpha1, not "v2"'],
    });
    expect(parseConfiguration('f', '')).toMatchObject({ kind: 'wrong' });
  });
});
