import { cidrContains } from '../../../src/lib/cidr.ts';
import { hostPort, isLoopback, parseIp } from '../../../src/lib/ip.ts';
import type { Snapshot } from '../../../src/model/snapshot.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { createMetrics } from '../../../src/observe/metrics.ts';
import type { RulesBackend } from '../../../src/rules/backend.ts';
import { defaultRulesConfig } from '../../../src/rules/config.ts';
import { carriedPorts } from '../../../src/rules/intent.ts';
import { IptablesBackend } from '../../../src/rules/iptables/apply.ts';
import { NftablesBackend } from '../../../src/rules/nftables/apply.ts';
import type { Exec } from '../../../src/system/exec.ts';
import { netnsMissing, Topology, type Host } from '../netns.ts';
import type { Consumer, Start } from './consumer.ts';
import { expectedPacket, type ExpectedPacket } from './expect.ts';
import type { Scenario } from './parse.ts';
import { IPTABLES_OPTIONS } from './iptables.ts';
import { patienceMs, probeRow, type ProbeOutcome } from './probe.ts';
import { walk } from './run.ts';
import type { State } from './state.ts';
import { DETECT_LOCAL, CLIENT_IPS, NODE_IPS, POD_CIDRS } from './world.ts';

/** One kind of rules in the kernel. */
interface Kind {
  readonly backend: (exec: Exec) => RulesBackend;
  /** What is there of Services that are gone; undefined when nothing is. */
  readonly ofServices: (node: Host) => Promise<string | undefined>;
  /** What is there of us at all; undefined when nothing is. */
  readonly ofUs: (node: Host) => Promise<string | undefined>;
}

const start =
  (kind: Kind): Start =>
  async (scenario, states) => {
    const topology = await Topology.create({ nodeIps: NODE_IPS, clientIps: CLIENT_IPS });
    try {
      const hosts = await populate(topology, scenario, states);
      const backend = kind.backend(topology.node.exec);
      const probe = async (expected: ExpectedPacket): Promise<ProbeOutcome> => {
        const { packet } = expected;
        const host = hosts.get(packet.source);
        if (!host || packet.protocol === 'SCTP')
          throw new Error(`cannot send ${packet.protocol} from ${packet.source}`);
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
          if (expected.packet.protocol === 'SCTP') return undefined;
          return probeRow(expected, { probe, seesMasquerade: true, dropMayReset: false });
        },
        nothingRemains: async () => {
          const services = await kind.ofServices(topology.node);
          if (services !== undefined) return `of Services that are gone there remains: ${services}`;
          await backend.cleanup();
          const left = await kind.ofUs(topology.node);
          return left === undefined ? undefined : `cleanup leaves: ${left}`;
        },
        stop: async () => {
          await backend.stop();
          await topology.close();
        },
      };
    } catch (error) {
      await topology.close();
      throw error;
    }
  };

const nftables: Kind = {
  backend: (exec) =>
    new NftablesBackend({ config: { ...defaultRulesConfig, detectLocal: DETECT_LOCAL }, exec, log: silentLogger }),
  ofServices: async (node) => {
    const elements = (await node.run('nft', 'list', 'ruleset')).match(/elements = \{[^}]*\}/g) ?? [];
    // The node's own addresses stay, and what a client was given by affinity until it expires.
    const ours = elements.filter((text) => !NODE_IPS.some((ip) => text.includes(ip)) && !text.includes('expires'));
    return ours.length > 0 ? ours.join(' ') : undefined;
  },
  ofUs: async (node) => (await node.run('nft', 'list', 'ruleset')).trim() || undefined,
};

const iptables: Kind = {
  backend: (exec) => new IptablesBackend({ ...IPTABLES_OPTIONS, exec, metrics: createMetrics() }),
  ofServices: async (node) => (await savedRules(node)).match(/^.*KUBE-(SVC|SVL|EXT|FW|SEP)-.*$/m)?.[0],
  ofUs: async (node) => (await savedRules(node)).match(/^.*KUBE-.*$/m)?.[0],
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
  missing: netnsMissing,
  run: (scenario) => walk(scenario, kernelConsumer, start(nftables)),
};

/** The same against iptables. */
export const kernelIptablesConsumer: Consumer = {
  name: 'kernel-iptables',
  mode: 'iptables',
  reads: ['packets'],
  missing: () => netnsMissing('iptables'),
  run: (scenario) => walk(scenario, kernelIptablesConsumer, start(iptables)),
};

/** A Pod for every endpoint and every source, serving what it is an endpoint of. Gives the host of each source address. */
async function populate(
  topology: Topology,
  scenario: Scenario,
  states: readonly State[],
): Promise<ReadonlyMap<string, Host>> {
  const hosts = new Map<string, Host>([
    ...NODE_IPS.map((ip) => [ip, topology.node] as const),
    ...CLIENT_IPS.map((ip) => [ip, topology.client] as const),
  ]);
  const pod = async (address: string): Promise<Host> => {
    const known = hosts.get(address);
    if (known) return known;
    const host = await topology.addPod(`p${hosts.size}`, [address]);
    hosts.set(address, host);
    return host;
  };
  for (const source of sourcesOf(scenario, states)) {
    const ip = parseIp(source);
    if (hosts.has(source) || !ip) continue;
    if (isLoopback(ip)) {
      hosts.set(source, topology.node);
    } else if (POD_CIDRS.some((range) => cidrContains(range, ip))) {
      await pod(source);
    } else {
      await topology.addClientAddress(source);
      hosts.set(source, topology.client);
    }
  }
  const served = new Set<string>();
  for (const { snapshot } of states) {
    for (const service of snapshot.services.values()) {
      for (const { protocol, endpoints } of carriedPorts(service)) {
        for (const { ip, port } of endpoints) {
          const name = hostPort(ip, port);
          if (protocol === 'SCTP' || served.has(`${protocol} ${name}`)) continue;
          served.add(`${protocol} ${name}`);
          await (await pod(ip)).serve({ protocol, address: ip, port, name });
        }
      }
    }
  }
  return hosts;
}

function sourcesOf(scenario: Scenario, states: readonly State[]): ReadonlySet<string> {
  const rows = states.flatMap(({ tables }) =>
    tables.filter(({ kind }) => kind === 'packets').flatMap(({ rows }) => rows),
  );
  return new Set(rows.map((row) => expectedPacket(scenario.file, row).packet.source));
}
