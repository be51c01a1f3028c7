// A node that carries a Service while things happen to it: namespaces, an API server on the node, `fairlead proxy` as a user starts it, and a
// client that connects all the time. For the tests and the benchmark of steadiness.

import { cpuSecondsOf, type CpuSeconds } from './cpu-time.ts';
import { RemoteApiServer } from './api-server/remote.ts';
import type { Json } from './api-server/json.ts';
import type { HammerResult, HammerTarget } from './hammer.ts';
import { Topology, type Host } from './netns.ts';
import { writeKubeProxyRules, type KubeProxyMode } from './kube-proxy-rules.ts';
import { FairleadProcess, runFairlead } from './process.ts';
import { SLOWNESS } from './slowness.ts';
import { until } from './until.ts';

export const CLUSTER_IP = '172.30.0.1';
export const NODE_PORT = 30080;
const NODE_IP = '192.168.0.2';

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

export class SteadyWorld {
  readonly topology: Topology;
  readonly api: RemoteApiServer;
  readonly pods: Readonly<Record<PodName, Host>>;
  readonly #servers = new Map<string, { stop(): Promise<void> }>();
  readonly #processes: FairleadProcess[] = [];
  #mode: string;
  #spent: CpuSeconds = { own: 0, tools: 0 };

  private constructor(topology: Topology, api: RemoteApiServer, pods: Record<PodName, Host>, mode: string) {
    this.topology = topology;
    this.api = api;
    this.pods = pods;
    this.#mode = mode;
  }

  /** The Service `shop/web` with endpoints a and b, carried. */
  static async create({ mode, others = 0 }: SteadyOptions): Promise<SteadyWorld> {
    const topology = await Topology.create();
    try {
      const names = Object.keys(PODS) as PodName[];
      const hosts = await Promise.all(names.map((name) => topology.addPod(name, [PODS[name]])));
      const pods = Object.fromEntries(names.map((name, index) => [name, hosts[index]])) as Record<PodName, Host>;
      const api = await RemoteApiServer.start(topology.node.namespace);
      const world = new SteadyWorld(topology, api, pods, mode);
      for (const name of names) await world.serve(name);
      await api.apply(NODE, service('web', CLUSTER_IP, NODE_PORT), slice('web', [{ pod: 'a' }, { pod: 'b' }]));
      for (let i = 0; i < others; i++) {
        await api.apply(service(`other-${i}`, `172.30.1.${i}`), slice(`other-${i}`, [{ pod: 'a' }]));
      }
      await world.start();
      return world;
    } catch (error) {
      await topology.close();
      throw error;
    }
  }

  /** The mode of the proxy that was started last. */
  get mode(): string {
    return this.#mode;
  }

  /** The proxy that runs now. */
  get proxy(): FairleadProcess {
    const proxy = this.#processes.at(-1);
    if (!proxy) throw new Error('no proxy runs');
    return proxy;
  }

  /** Starts a proxy, in another mode or with further flags when given, and waits until its rules are in force. */
  async start(mode = this.#mode, ...flags: readonly string[]): Promise<void> {
    this.#mode = mode;
    const proxy = new FairleadProcess(
      [
        'proxy',
        '--master',
        this.api.url,
        `--mode=${mode}`,
        '--node-name=node-a',
        '--cluster-cidr=10.0.0.0/8',
        '--logging-format=json',
        ...flags,
      ],
      { namespace: this.topology.node.namespace },
    );
    this.#processes.push(proxy);
    const ended = proxy.exited.then(() => {
      throw new Error(`the proxy ended: ${proxy.stderr}`);
    });
    await Promise.race([proxy.logged(({ message }) => message === 'rules in force', 30_000 * SLOWNESS), ended]);
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#spent = sum(this.#spent, cpuSecondsOf(this.proxy.pid));
    this.proxy.kill(signal);
    await this.proxy.exited;
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
    return this.api.apply(slice(name, members, ports));
  }

  /** Gives the Service these endpoints, and waits until the rules say so: they have to differ from those before. */
  async change(members: readonly Member[], name = 'web', ports = PORTS): Promise<void> {
    const before = this.#syncs();
    await this.announce(members, name, ports);
    await this.#synced(before);
  }

  async apply(...objects: readonly Json[]): Promise<void> {
    const before = this.#syncs();
    await this.api.apply(...objects);
    await this.#synced(before);
  }

  /** Lets somebody else damage the rules, and waits until they have been repaired. */
  async repaired(damage: () => Promise<unknown>): Promise<void> {
    const before = this.#syncs();
    await damage();
    await this.#synced(before);
  }

  /** What a client sees that connects every 10 ms to each target while `happens`, and for a while before and after. */
  async hammered(happens: () => Promise<void>, targets = TARGETS): Promise<HammerResult> {
    const hammer = await this.topology.client.hammer({ targets, everyMs: 10, timeoutMs: 3000 * SLOWNESS });
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
  async cleanup(): Promise<void> {
    const { code, stdout, stderr } = await runFairlead(['cleanup'], { namespace: this.topology.node.namespace });
    if (code !== 0) throw new Error(`cleanup: ${stdout}${stderr}`);
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
    return sum(this.#spent, cpuSecondsOf(this.proxy.pid));
  }

  async close(): Promise<void> {
    await Promise.all(this.#processes.map((each) => each.close()));
    await this.api.close();
    await this.topology.close();
  }

  #syncs(): number {
    return this.proxy.log.filter(({ message }) => message === 'rules in force').length;
  }

  async #synced(before: number): Promise<void> {
    const { proxy } = this;
    await until(
      () => (this.#syncs() > before ? true : undefined),
      30_000,
      () => `no sync. The log:\n${proxy.stderr}`,
    );
  }
}

function sum(a: CpuSeconds, b: CpuSeconds): CpuSeconds {
  return { own: a.own + b.own, tools: a.tools + b.tools };
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
