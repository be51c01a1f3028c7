// What the rules benchmark knows of each mode: the tool that loads the same rules from a file, and what kube-proxy v1.36.2 took on this kind of machine.

import type { Snapshot } from '../../src/model/snapshot.ts';
import type { RulesMode } from '../../src/rules/backend.ts';
import type { RulesConfig } from '../../src/rules/config.ts';
import type { ServiceSketch } from '../rules/cluster.ts';

/** The modes of the program, and iptables with the tool over nf_tables, which is another matter. */
export type BenchMode = Exclude<RulesMode, 'userspace'> | 'iptables-nft';

export interface RawTool {
  /** As the program calls it. */
  readonly mode: RulesMode;
  readonly name: string;
  /** The words that load the file. */
  readonly words: (file: string) => readonly string[];
  /** What the machine must have before, each a command: what kubelet leaves where it uses the legacy tool. */
  readonly prepare?: readonly (readonly string[])[];
  readonly render: (snapshot: Snapshot, config: RulesConfig) => Promise<string>;
}

export const RAW: Readonly<Record<BenchMode, RawTool>> = {
  nftables: {
    mode: 'nftables',
    name: 'nft -f',
    words: (file) => ['nft', '-f', file],
    render: async (snapshot, config) =>
      (await import('../../src/rules/nftables/render.ts')).renderNftables(snapshot, config),
  },
  iptables: {
    mode: 'iptables',
    name: 'iptables-legacy-restore',
    words: (file) => ['iptables-legacy-restore', '--noflush', file],
    prepare: [['iptables-legacy', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']],
    render: iptablesText,
  },
  // Takes minutes from some 5,000 Services on.
  'iptables-nft': {
    mode: 'iptables',
    name: 'iptables-nft-restore',
    words: (file) => ['iptables-nft-restore', '--noflush', file],
    prepare: [['iptables-nft', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']],
    render: iptablesText,
  },
  // The virtual servers alone: sets and addresses are beside what is compared.
  ipvs: {
    mode: 'ipvs',
    name: 'ipvsadm --restore',
    words: (file) => ['sh', '-c', `ipvsadm --restore <${file}`],
    render: async (snapshot, config) => {
      const text = (await import('../../src/rules/ipvs/render.ts')).renderIpvs(snapshot, config);
      const heading = '# ipvsadm --restore\n';
      return text.slice(text.indexOf(heading) + heading.length, text.indexOf('# ip -batch'));
    },
  },
};

async function iptablesText(snapshot: Snapshot, config: RulesConfig): Promise<string> {
  const text = (await import('../../src/rules/iptables/render.ts')).renderIptables(snapshot, config);
  return text.slice(0, text.indexOf('# iptables-restore, IPv6'));
}

export interface KubeProxyFigures {
  readonly firstSync: string;
  readonly memory: string;
  /** One endpoint changed. */
  readonly latency: string;
  readonly cpu: string;
}

/** By mode and `SERVICESxENDPOINTS`. */
export const KUBE_PROXY: Readonly<Partial<Record<string, KubeProxyFigures>>> = {
  'nftables 1000x5': { firstSync: '560 ms', memory: '100 + 27 MiB', latency: '140 ms', cpu: '150 ms' },
  'nftables 5000x10': { firstSync: '3900 ms', memory: '278 + 277 MiB', latency: '1600 ms', cpu: '1450 ms' },
  'nftables 10000x5': { firstSync: '12800 ms', memory: '378 + 224 MiB', latency: '3700 ms', cpu: '3800 ms' },
  'nftables 5000x50': { firstSync: '6700 ms', memory: '707 + 490 MiB', latency: '2800 ms', cpu: '2900 ms' },
  'iptables 1000x5': { firstSync: '670 ms', memory: '', latency: '', cpu: '90 ms' },
  'iptables 5000x10': { firstSync: '3400 ms', memory: '', latency: '', cpu: '890 ms' },
  'iptables-nft 1000x5': { firstSync: '1900 ms', memory: '', latency: '', cpu: '' },
  'iptables 10000x5': { firstSync: '3900 ms', memory: '', latency: '', cpu: '970 ms' },
};

/** The Service through which the first packet is timed: its only endpoint is real. Last by name, as a list would have it. */
export const PROBE: ServiceSketch & { readonly address: string; readonly pod: string } = {
  name: 'z-probe',
  clusterIPs: ['172.29.0.1'],
  endpoints: ['10.255.0.1:8080'],
  address: '172.29.0.1',
  pod: '10.255.0.1',
};
