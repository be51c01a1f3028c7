// The networks that the scenarios share: node, client and a Pod for each address that one of them names, made when first named. To make one
// anew for each scenario would cost more than all that the scenario does.

import { spawnSync } from 'node:child_process';
import { cidrContains } from '../../../src/lib/cidr.ts';
import { hostPort, isLoopback, parseIp } from '../../../src/lib/ip.ts';
import { carriedPorts } from '../../../src/rules/intent.ts';
import { Topology, type Host } from '../netns.ts';
import { expectedPacket } from './expect.ts';
import type { Scenario } from './parse.ts';
import type { State } from './state.ts';
import { CLIENT_IPS, NODE_IPS, OTHER_NODE_IP, POD_CIDRS } from './world.ts';

/** What is not there is as good. Chains go before the sets that they ask. */
const CLEAR = `conntrack -F; nft flush ruleset
{ ipvsadm -C; ip link delete kube-ipvs0; ipset destroy; } 2>/dev/null; true`;

/** What one scenario finds. */
export interface Stage {
  readonly node: Host;
  /** Where packets of each source address come from. */
  readonly hosts: ReadonlyMap<string, Host>;
  /** Stops the servers, and removes every rule and flow of the node. */
  readonly clear: () => Promise<void>;
}

class KernelWorld {
  #topology: Topology | undefined;
  readonly #hosts = new Map<string, Host>();

  /** Serves every endpoint of the scenario, and has a host for every source of a packet. */
  async set(scenario: Scenario, states: readonly State[]): Promise<Stage> {
    const topology = (this.#topology ??= await this.#create());
    const servers: { stop(): Promise<void> }[] = [];
    const clear = async (): Promise<void> => {
      for (const server of servers) await server.stop();
      await topology.node.run('sh', '-c', CLEAR);
    };
    try {
      for (const source of sourcesOf(scenario, states)) await this.#source(topology, source);
      for (const { protocol, ip, port } of endpointsOf(states)) {
        if (protocol === 'SCTP' && !hasSctp()) continue;
        const pod = await this.#pod(topology, ip);
        servers.push(await pod.serve({ protocol, address: ip, port, name: hostPort(ip, port) }));
      }
    } catch (error) {
      await this.close();
      throw error;
    }
    return { node: topology.node, hosts: this.#hosts, clear };
  }

  /** Removes the namespaces; the next scenario makes new ones. */
  async close(): Promise<void> {
    const topology = this.#topology;
    this.#topology = undefined;
    this.#hosts.clear();
    await topology?.close();
  }

  async #create(): Promise<Topology> {
    const topology = await Topology.create({ nodeIps: NODE_IPS, clientIps: CLIENT_IPS });
    await topology.node.run('ip', 'addr', 'add', `${OTHER_NODE_IP}/32`, 'dev', 'eth0');
    for (const ip of NODE_IPS) this.#hosts.set(ip, topology.node);
    for (const ip of CLIENT_IPS) this.#hosts.set(ip, topology.client);
    return topology;
  }

  async #source(topology: Topology, source: string): Promise<void> {
    const ip = parseIp(source);
    if (this.#hosts.has(source) || !ip) return;
    if (isLoopback(ip)) {
      this.#hosts.set(source, topology.node);
    } else if (POD_CIDRS.some((range) => cidrContains(range, ip))) {
      await this.#pod(topology, source);
    } else {
      await topology.addClientAddress(source);
      this.#hosts.set(source, topology.client);
    }
  }

  async #pod(topology: Topology, address: string): Promise<Host> {
    const known = this.#hosts.get(address);
    if (known) return known;
    const pod = await topology.addPod(`p${this.#hosts.size}`, [address]);
    this.#hosts.set(address, pod);
    return pod;
  }
}

/** Scenarios at a time, each in a world of its own: more would wait for the processors. */
const MOST_WORLDS = 2;

class KernelWorlds {
  readonly #free = Array.from({ length: MOST_WORLDS }, () => new KernelWorld());
  readonly #waiting: ((world: KernelWorld) => void)[] = [];

  /** See KernelWorld; waits until a world is free, and its `clear` gives it back. */
  async set(scenario: Scenario, states: readonly State[]): Promise<Stage> {
    const world = this.#free.shift() ?? (await new Promise<KernelWorld>((resolve) => this.#waiting.push(resolve)));
    const giveBack = (): void => {
      const next = this.#waiting.shift();
      if (next) next(world);
      else this.#free.unshift(world);
    };
    try {
      const { clear, ...stage } = await world.set(scenario, states);
      return { ...stage, clear: () => clear().finally(giveBack) };
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** When no scenario is under way. */
  async close(): Promise<void> {
    for (const world of this.#free) await world.close();
  }
}

export const kernelWorlds = new KernelWorlds();

let sctp: boolean | undefined;

/** Whether this kernel has SCTP sockets; asked once. */
export function hasSctp(): boolean {
  sctp ??= spawnSync('perl', ['-MSocket', '-e', 'socket(my $s, AF_INET, SOCK_STREAM, 132) or exit 1']).status === 0;
  return sctp;
}

function sourcesOf(scenario: Scenario, states: readonly State[]): ReadonlySet<string> {
  const rows = states.flatMap(({ tables }) =>
    tables.filter(({ kind }) => kind === 'packets').flatMap(({ rows }) => rows),
  );
  return new Set(rows.map((row) => expectedPacket(scenario.file, row).packet.source));
}

function endpointsOf(
  states: readonly State[],
): Iterable<{ protocol: 'TCP' | 'UDP' | 'SCTP'; ip: string; port: number }> {
  const all = states.flatMap(({ snapshot }) =>
    [...snapshot.services.values()].flatMap((service) =>
      carriedPorts(service).flatMap(({ protocol, endpoints }) =>
        endpoints.map(({ ip, port }) => ({ protocol, ip, port })),
      ),
    ),
  );
  return new Map(all.map((each) => [`${each.protocol} ${hostPort(each.ip, each.port)}`, each])).values();
}
