import { describe, expect, test } from 'vitest';
import type { NodeIdentity } from '../../model/snapshot.ts';
import { parseArguments } from '../args.ts';
import { configurationFromFlags, idleFlags } from './from-flags.ts';
import { configurationOf } from './schema.ts';
import { nodeNameOf, rulesConfigOf, withBindAddress } from './settings.ts';
import { cidr, ip } from '../../../test/support/values.ts';

const node: NodeIdentity = {
  name: 'node-a',
  ips: ['192.0.2.1', '2001:db8::1'].map(ip),
  zone: undefined,
  podCIDRs: ['10.1.0.0/24', 'fd00:1::/64'].map(cidr),
};

const configured = (values: Readonly<Record<string, unknown>>) => configurationOf(new Map(Object.entries(values)));
const rules = (values: Readonly<Record<string, unknown>>, origin: 'file' | 'flags' = 'file') =>
  rulesConfigOf(configured(values), origin, node);

describe('the rules that a configuration asks for', () => {
  test('mode "" of a file is iptables mode of kube-proxy: its section, and NodePorts on every address', () => {
    const values = { 'iptables.masqueradeAll': true, 'iptables.masqueradeBit': 31, 'nftables.masqueradeBit': 3 };
    expect(rules(values)).toMatchObject({
      masqueradeAll: true,
      masqueradeMark: 0x8000_0000,
      nodePortAddresses: { kind: 'all' },
    });
  });

  test('mode nftables has a section of its own, and NodePorts where that mode has them', () => {
    const values = { mode: 'nftables', 'iptables.masqueradeAll': true, 'nftables.minSyncPeriod': 1000 };
    expect(rules(values)).toMatchObject({
      masqueradeAll: false,
      masqueradeMark: 0x4000,
      minSyncPeriodMs: 1000,
      nodePortAddresses: 'by-mode',
    });
  });

  test.each([
    [{ clusterCIDR: '' }, { kind: 'none' }],
    [{ clusterCIDR: '10.0.0.0/8, fd00::/8' }, { kind: 'cidrs', cidrs: ['10.0.0.0/8', 'fd00::/8'] }],
    [{ detectLocalMode: 'NodeCIDR' }, { kind: 'cidrs', cidrs: ['10.1.0.0/24', 'fd00:1::/64'] }],
    [
      { detectLocalMode: 'BridgeInterface', 'detectLocal.bridgeInterface': 'cni0' },
      { kind: 'bridge', interface: 'cni0' },
    ],
    [
      { detectLocalMode: 'InterfaceNamePrefix', 'detectLocal.interfaceNamePrefix': 'veth' },
      { kind: 'interface-prefix', prefix: 'veth' },
    ],
  ])('local Pods of %j', (values, detectLocal) => expect(rules(values).detectLocal).toEqual(detectLocal));
});

describe('who we are', () => {
  test('a bindAddress is the address of its family, and that the primary one', () => {
    expect(withBindAddress(node, configured({ bindAddress: '2001:db8::2' })).ips).toEqual(['2001:db8::2', '192.0.2.1']);
    expect(withBindAddress(node, configured({ bindAddress: '::' }))).toBe(node);
  });

  test('the name is trimmed and in lower case', () => {
    expect(nodeNameOf(configured({ hostnameOverride: ' Node-B ' }), 'host')).toBe('node-b');
    expect(nodeNameOf(configured({}), 'HOST')).toBe('host');
  });
});

describe('flags', () => {
  const from = (...words: string[]) => configurationFromFlags(parseArguments('proxy', words));

  test('set fields, those of iptables in nftables too', () => {
    const words = [
      '--iptables-sync-period=1m',
      '--masquerade-all',
      '--proxy-mode=nftables',
      '--cluster-cidr=10.0.0.0/8',
    ];
    expect(from(...words, '--nodeport-addresses=10.0.0.0/8,192.0.2.0/24', '--oom-score-adj=-5')).toMatchObject({
      mode: 'nftables',
      iptables: { syncPeriod: 60_000, masqueradeAll: true },
      nftables: { syncPeriod: 60_000, masqueradeAll: true },
      clusterCIDR: '10.0.0.0/8',
      nodePortAddresses: ['10.0.0.0/8', '192.0.2.0/24'],
      oomScoreAdj: -5,
    });
  });

  test('deprecated ports stand behind the addresses; 0 is none', () => {
    expect(from('--healthz-port=1', '--metrics-port=0')).toMatchObject({
      healthzBindAddress: '0.0.0.0:1',
      metricsBindAddress: '',
    });
    expect(from('--healthz-port=1', '--healthz-bind-address=127.0.0.1:2').healthzBindAddress).toBe('127.0.0.1:2');
  });

  test.each([
    ['--conntrack-min=many', '--conntrack-min must be a whole number, not "many"'],
    ['--iptables-sync-period=30', '--iptables-sync-period must be a duration such as 30s or 1h0m0s, not "30"'],
    ['--detect-local-mode=Guess', '--detect-local-mode: "Guess" is none of'],
    ['--healthz-port=x', '--healthz-port is a port'],
  ])('%s', (word, message) => expect(() => from(word)).toThrow(message));

  test('that do nothing are named: without a meaning here, and beside a file', () => {
    const words = [
      '--profiling',
      '--boot-id-file=/x',
      '--cluster-cidr=10.0.0.0/8',
      '--healthz-port=1',
      '-v=2',
      '--hostname-override=x',
    ];
    const args = parseArguments('proxy', words);
    expect(idleFlags(args, false)).toEqual({ meaningless: ['--profiling', '--boot-id-file'], overruled: [] });
    expect(idleFlags(args, true)).toEqual({
      meaningless: ['--profiling', '--boot-id-file'],
      overruled: ['--cluster-cidr', '--healthz-port'],
    });
  });
});
