import type { Snapshot } from '../../../src/model/snapshot.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { createMetrics } from '../../../src/observe/metrics.ts';
import type { RulesBackend } from '../../../src/rules/backend.ts';
import { defaultRulesConfig } from '../../../src/rules/config.ts';
import { IptablesBackend } from '../../../src/rules/iptables/apply.ts';
import { IpvsBackend } from '../../../src/rules/ipvs/apply.ts';
import { NftablesBackend } from '../../../src/rules/nftables/apply.ts';
import type { Exec } from '../../../src/system/exec.ts';
import { ipvsMissing, netnsMissing, type Host } from '../netns.ts';
import type { Consumer, Start } from './consumer.ts';
import { expectedPacket, type ExpectedPacket } from './expect.ts';
import { IPTABLES_OPTIONS } from './iptables.ts';
import { IPVS_OPTIONS } from './ipvs.ts';
import { hasSctp, kernelWorlds } from './kernel-world.ts';
import { patienceMs, probeRow, type ProbeOutcome } from './probe.ts';
import { walk } from './run.ts';
import type { ScenarioSettings } from './settings.ts';
import { DETECT_LOCAL, NODE_IPS } from './world.ts';

/** One kind of rules in the kernel. */
interface Kind {
  readonly backend: (exec: Exec, settings: ScenarioSettings) => RulesBackend;
  /** What is there of Services that are gone; undefined when nothing is. */
  readonly ofServices: (node: Host) => Promise<string | undefined>;
  /** What is there of us at all; undefined when nothing is. */
  readonly ofUs: (node: Host) => Promise<string | undefined>;
}

const start =
  (kind: Kind): Start =>
  async (scenario, states) => {
    const { node, hosts, clear } = await kernelWorlds.set(scenario, states);
    const backend = kind.backend(node.exec, scenario.settings);
    const probe = async (expected: ExpectedPacket): Promise<ProbeOutcome> => {
      const { packet } = expected;
      const host = hosts.get(packet.source);
      if (!host) throw new Error(`cannot send from ${packet.source}`);
      return host.connect({
        protocol: packet.protocol,
        address: packet.destination,
        port: packet.port,
        source: packet.source,
        timeoutMs: patienceMs(expected),
      });
    };
    const sync = async (snapshot: Snapshot): Promise<void> => {
      const outcome = await backend.sync(snapshot);
      if (outcome.kind !== 'applied') throw new Error(outcome.reason);
    };
    return {
      update: ({ snapshot }) => sync(snapshot),
      check: async (_kind, row) => {
        const expected = expectedPacket(scenario.file, row);
        if (expected.packet.protocol === 'SCTP' && !hasSctp()) return undefined;
        return probeRow(expected, { probe, seesMasquerade: true, dropMayReset: false });
      },
      nothingRemains: async () => {
        const services = await kind.ofServices(node);
        if (services !== undefined) return `of Services that are gone there remains: ${services}`;
        await backend.cleanup();
        const left = await kind.ofUs(node);
        return left === undefined ? undefined : `cleanup leaves: ${left}`;
      },
      stop: async () => {
        await backend.stop();
        await clear();
      },
    };
  };

const nftables: Kind = {
  backend: (exec, settings) =>
    new NftablesBackend({
      config: { ...defaultRulesConfig, detectLocal: DETECT_LOCAL, ...settings },
      exec,
      log: silentLogger,
    }),
  ofServices: async (node) => {
    const elements = (await node.run('nft', 'list', 'ruleset')).match(/elements = \{[^}]*\}/g) ?? [];
    // The node's own addresses stay, and what a client was given by affinity until it expires.
    const ours = elements.filter((text) => !NODE_IPS.some((ip) => text.includes(ip)) && !text.includes('expires'));
    return ours.length > 0 ? ours.join(' ') : undefined;
  },
  ofUs: async (node) => (await node.run('nft', 'list', 'ruleset')).trim() || undefined,
};

const iptables: Kind = {
  backend: (exec, settings) =>
    new IptablesBackend({
      ...IPTABLES_OPTIONS,
      config: { ...IPTABLES_OPTIONS.config, ...settings },
      exec,
      metrics: createMetrics(),
    }),
  ofServices: async (node) => (await savedRules(node)).match(/^.*KUBE-(SVC|SVL|EXT|FW|SEP)-.*$/m)?.[0],
  ofUs: async (node) => (await savedRules(node)).match(/^.*KUBE-.*$/m)?.[0],
};

const ipvs: Kind = {
  backend: (exec, settings) => {
    const config = { ...IPVS_OPTIONS.config, ...settings };
    return new IpvsBackend({ ...IPVS_OPTIONS, config, exec, metrics: createMetrics() });
  },
  ofServices: async (node) => {
    const held = (await node.run('ipvsadm', '--save', '--numeric')) + (await node.run('ipset', 'save'));
    return /^(-A|add KUBE-).*$/m.exec(held)?.[0];
  },
  ofUs: async (node) => {
    const links = await node.run('ip', '-br', 'link', 'show', 'type', 'dummy');
    return /^.*KUBE-.*|kube-ipvs0.*$/m.exec((await savedRules(node)) + (await node.run('ipset', 'save')) + links)?.[0];
  },
};

async function savedRules(node: Host): Promise<string> {
  return (await node.run('iptables-save')) + (await node.run('ip6tables-save'));
}

/**
 * Holds `packets` tables against nftables in the real kernel: node, Pods and client are network namespaces joined by veth, a packet is a
 * real connection or datagram, and masquerading is what the endpoint sees as its peer.
 */
export const kernelConsumer: Consumer = {
  name: 'kernel',
  mode: 'nftables',
  reads: ['packets'],
  missing: () => netnsMissing('conntrack', 'perl'),
  close: () => kernelWorlds.close(),
  run: (scenario) => walk(scenario, kernelConsumer, start(nftables)),
};

/** The same against iptables. */
export const kernelIptablesConsumer: Consumer = {
  name: 'kernel-iptables',
  mode: 'iptables',
  reads: ['packets'],
  missing: () => netnsMissing('conntrack', 'perl', 'iptables'),
  close: () => kernelWorlds.close(),
  run: (scenario) => walk(scenario, kernelIptablesConsumer, start(iptables)),
};

/** The same against IPVS, where the kernel has it. */
export const kernelIpvsConsumer: Consumer = {
  name: 'kernel-ipvs',
  mode: 'ipvs',
  reads: ['packets'],
  missing: () => netnsMissing('conntrack', 'perl', 'iptables', 'ipset', 'ipvsadm') ?? ipvsMissing(),
  close: () => kernelWorlds.close(),
  run: (scenario) => walk(scenario, kernelIpvsConsumer, start(ipvs)),
};
