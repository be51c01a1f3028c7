// A node that carries a Service while things happen to it: namespaces, an API server on the node, `fairlead proxy` as a user starts it, and a
// client that connects all the time. For the tests and the benchmark of steadiness.

import type { CpuSeconds } from './cpu-time.ts';
import type { Json } from './api-server/json.ts';
import type { HammerResult, HammerTarget } from './hammer.ts';
import { Topology, type Host } from './netns.ts';
import { writeKubeProxyRules, type KubeProxyMode } from './kube-proxy-rules.ts';
import { ProxyProcesses, type ProxyRunner } from './proxy-runner.ts';
import { SLOWNESS } from './slowness.ts';
import { until } from './until.ts';

export const CLUSTER_IP = '172.30.0.1';
export const NODE_PORT = 30080;
export const NODE_IP = '192.168.0.2';

/** The Pods that answer, each on TCP and UDP 8080 with its name; `d` is on no list before a test puts it there. */
export const PODS = { a: '10.0.0.1', b: '10.0.0.2', c: '10.0.0.3', d: '10.0.0.4' } as const;
export type PodName = keyof typeof PODS;

/** An endpoint and its state. */
export interface Member {
  readonly pod: PodName;
  readonly terminating?: boolean;
}

export const TARGETS: readonly HammerTarget[] = [
  { protocol: 'TCP', address: CLUSTER_IP, port: 80 },
  { protocol: 'TCP', address: NODE_IP, port: NODE_PORT },
];

export interface SteadyOptions {
  readonly mode: string;
  /** Services beside `web`, each with endpoint `a`. */
  readonly others?: number;
}

/** Node, client and Pods, which several worlds may use one after the other. */
export class SteadyStage {
  readonly topology: Topology;
  readonly pods: Readonly<Record<PodName, Host>>;

  private constructor(topology: Topology, pods: Record<PodName, Host>) {
    this.topology = topology;
    this.pods = pods;
  }

  static async create(): Promise<SteadyStage> {
    const topology = await Topology.create();
    try {
      const names = Object.keys(PODS) as PodName[];
      const hosts = await Promise.all(names.map((name) => topology.addPod(name, [PODS[name]])));
      return new SteadyStage(
        topology,
        Object.fromEntries(names.map((name, index) => [name, hosts[index]])) as Record<PodName, Host>,
      );
    } catch (error) {
      await topology.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.topology.close();
  }
}

export class SteadyWorld<Runner extends ProxyRunner = ProxyRunner> {
  readonly topology: Topology;
  readonly runner: Runner;
  readonly pods: Readonly<Record<PodName, Host>>;
  readonly #servers = new Map<string, { stop(): Promise<void> }>();
  #mode: string;

  private constructor({ topology, pods }: SteadyStage, runner: Runner, mode: string) {
    this.topology = topology;
    this.runner = runner;
    this.pods = pods;
    this.#mode = mode;
  }

  /** The Service `shop/web` with endpoints a and b, carried by a process of its own. */
  static async create(options: SteadyOptions): Promise<SteadyWorld<ProxyProcesses>> {
    const stage = await SteadyStage.create();
    try {
      return await SteadyWorld.on(stage, await ProxyProcesses.on(stage.topology.node), options);
    } catch (error) {
      await stage.close();
      throw error;
    }
  }

  /** The same on a stage that is there. */
  static async on<Runner extends ProxyRunner>(
    stage: SteadyStage,
    runner: Runner,
    { mode, others = 0 }: SteadyOptions,
  ): Promise<SteadyWorld<Runner>> {
    const world = new SteadyWorld(stage, runner, mode);
    for (const name of Object.keys(PODS) as PodName[]) await world.serve(name);
    await runner.apply(...firstObjects());
    for (let i = 0; i < others; i++) {
      await runner.apply(service(`other-${i}`, `172.30.1.${i}`), slice(`other-${i}`, [{ pod: 'a' }]));
    }
    await world.start();
    return world;
  }

  /** The mode of the proxy that was started last. */
  get mode(): string {
    return this.#mode;
  }

  /** Starts a proxy, in another mode or with further flags when given, and waits until its rules are in force. */
  async start(mode = this.#mode, ...flags: readonly string[]): Promise<void> {
    this.#mode = mode;
    await this.runner.start(mode, flags);
  }

  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    return this.runner.stop(signal);
  }

  async serve(pod: PodName): Promise<void> {
    for (const protocol of ['TCP', 'UDP'] as const) {
      this.#servers.set(
        `${pod} ${protocol}`,
        await this.pods[pod].serve({ protocol, address: PODS[pod], port: 8080, name: pod }),
      );
    }
  }

  /** The Pod answers no more: its ports refuse. */
  async die(pod: PodName): Promise<void> {
    for (const protocol of ['TCP', 'UDP']) await this.#servers.get(`${pod} ${protocol}`)?.stop();
  }

  /** Gives the Service these endpoints, without waiting for the rules. */
  announce(members: readonly Member[], name = 'web', ports = PORTS): Promise<void> {
    return this.runner.apply(slice(name, members, ports));
  }

  /** Gives the Service these endpoints, and waits until the rules say so: they have to differ from those before. */
  async change(members: readonly Member[], name = 'web', ports = PORTS): Promise<void> {
    const before = this.#syncs();
    await this.announce(members, name, ports);
    await this.#synced(before);
  }

  async apply(...objects: readonly Json[]): Promise<void> {
    const before = this.#syncs();
    await this.runner.apply(...objects);
    await this.#synced(before);
  }

  /** Lets somebody else damage the rules, and waits until they have been repaired. */
  async repaired(damage: () => Promise<unknown>): Promise<void> {
    const before = this.#syncs();
    await damage();
    await this.#synced(before);
  }

  /** What a client sees that connects every 10 ms (more rarely where the processor is emulated) to each target while `happens`, and for a while before and after. */
  async hammered(happens: () => Promise<void>, targets = TARGETS): Promise<HammerResult> {
    const hammer = await this.topology.client.hammer({
      targets,
      everyMs: 10 * SLOWNESS,
      timeoutMs: 3000 * SLOWNESS,
      ...(SLOWNESS > 1 ? { mostWaiting: 40 } : {}),
    });
    let result: HammerResult | undefined;
    try {
      await pause(200);
      await happens();
      await pause(300);
    } finally {
      result = await hammer.stop();
    }
    return result;
  }

  /** Puts kube-proxy's rules of that mode into the node's kernel, with these endpoints for `web`: what kube-proxy does when it starts. */
  kubeProxyServes(mode: KubeProxyMode, members: readonly Member[]): Promise<void> {
    return writeKubeProxyRules(this.topology.node, mode, {
      name: 'shop/web',
      portName: 'main',
      clusterIP: CLUSTER_IP,
      nodePort: NODE_PORT,
      endpoints: members.map(({ pod }) => `${PODS[pod]}:8080`),
      nodeIp: NODE_IP,
      podCIDR: '10.0.0.0/8',
    });
  }

  /** Removes everything of ours from the node, as `fairlead cleanup` does; whose rules stay serves. */
  cleanup(): Promise<void> {
    return this.runner.cleanup();
  }

  /** Whose rules there are: the names of tables and of chains that lead to Services. */
  async rulesThere(): Promise<readonly string[]> {
    const { node } = this.topology;
    const tables = (await node.run('nft', 'list', 'tables')).match(/(fairlead|kube-proxy)$/gm) ?? [];
    const chains = (await node.run('iptables-save')).includes('KUBE-SVC-') ? ['chains'] : [];
    return [...new Set([...tables, ...chains])].sort();
  }

  /** CPU seconds so far of the proxies that were started, and of the tools that they have run. */
  cpuSeconds(): CpuSeconds {
    return this.runner.cpuSeconds();
  }

  /** Ends everything, with the stage. */
  async close(): Promise<void> {
    await this.runner.close();
    await this.topology.close();
  }

  /** Leaves the stage empty, for the next world. */
  async leave(): Promise<void> {
    await this.runner.close();
    for (const server of this.#servers.values()) await server.stop();
    await this.cleanup();
    await this.topology.node.run('sh', '-c', 'nft flush ruleset; conntrack -F 2>/dev/null');
  }

  #syncs(): number {
    return this.runner.log.filter(({ message }) => message === 'rules in force').length;
  }

  async #synced(before: number): Promise<void> {
    await until(
      () => this.#syncs() > before,
      30_000 * SLOWNESS,
      () => `no sync. The log:\n${this.runner.log.map((line) => JSON.stringify(line)).join('\n')}`,
    );
  }
}

/** Time during which the client goes on: not a wait for something, but the traffic that the test is about. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const NODE: Json = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-a' },
  status: { addresses: [{ type: 'InternalIP', address: NODE_IP }] },
};

export function service(name: string, clusterIP: string, nodePort?: number, more: Json = {}): Json {
  const port = { port: 80, protocol: 'TCP', name: 'main', ...(nodePort === undefined ? {} : { nodePort }) };
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name },
    spec: {
      type: nodePort === undefined ? 'ClusterIP' : 'NodePort',
      clusterIP,
      clusterIPs: [clusterIP],
      ports: [port],
      ...more,
    },
  };
}

const PORTS: readonly Json[] = [
  { name: 'main', port: 8080, protocol: 'TCP' },
  { name: 'udp', port: 8080, protocol: 'UDP' },
];

/** What every world begins with: the node, and the Service `web` with endpoints a and b. */
export function firstObjects(): readonly Json[] {
  return [NODE, service('web', CLUSTER_IP, NODE_PORT), slice('web', [{ pod: 'a' }, { pod: 'b' }])];
}

/** The EndpointSlice of the Service, with a TCP and a UDP port unless other ports are given. */
function slice(name: string, members: readonly Member[], ports = PORTS): Json {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace: 'shop', name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports,
    endpoints: members.map(({ pod, terminating = false }) => ({
      addresses: [PODS[pod]],
      nodeName: 'node-a',
      conditions: { ready: !terminating, serving: true, terminating },
    })),
  };
}
