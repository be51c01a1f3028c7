// Network namespaces for tests against the real kernel: a node that forwards, pods and an outside client around it, joined
// by veth pairs. Nothing here leaves the machine. Names carry the process id, so that what a killed run left is removed
// by the next one.

import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import type { DownloadOptions } from './download.ts';
import type { HammerOptions, HammerResult } from './hammer.ts';
import type { TalkOptions } from './talk.ts';
import type { Exec } from '../../src/system/exec.ts';
import { systemExec } from '../../src/system/exec.ts';
import { systemFollow, type Follow } from '../../src/system/follow.ts';
import { ToolShells } from '../../src/system/tool-shell.ts';
import { NetnsAgent } from './netns-agent-client.ts';
import { socketAgent, type ConnectOptions, type Outcome, type ServeOptions } from './socket-agent.ts';

const execFileAsync = promisify(execFile);

/** Why namespaces cannot be used here, or undefined when they can. `tools`: further programs that are needed. For `test.skipIf` and the line that says so. */
export function netnsMissing(...tools: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return 'not root: network namespaces need CAP_NET_ADMIN and CAP_SYS_ADMIN';
  const path = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  const has = (tool: string): boolean => path.some((folder) => existsIn(folder, tool));
  if (!has('ip')) return 'no ip: apt-get install iproute2';
  if (!has('nft')) return 'no nft: apt-get install nftables';
  const missing = tools.find((tool) => !has(tool));
  return missing === undefined ? undefined : `no ${missing}: apt-get install ${missing}`;
}

/** Why there can be no IPVS here; undefined when there can. */
export function ipvsMissing(): string | undefined {
  if (existsSync('/proc/net/ip_vs')) return undefined;
  spawnSync('sh', ['-c', 'PATH=$PATH:/usr/sbin:/sbin modprobe ip_vs'], { stdio: 'ignore' });
  return existsSync('/proc/net/ip_vs') ? undefined : 'this kernel has no IPVS (npm run test:vm brings one that has)';
}

/** The gateway that every pod has: an address of the node on the pod's own link. */
const GATEWAY_4 = '169.254.1.1';
const GATEWAY_6 = 'fe80::1';

export interface TopologyOptions {
  /** Addresses of the node, one of each family. */
  readonly nodeIps?: readonly string[];
  /** Addresses of the outside client. */
  readonly clientIps?: readonly string[];
}

export const NODE_IPS = ['192.168.0.2', 'fd00:192:168::2'];
export const CLIENT_IPS = ['203.0.113.2', '2001:db8:113::2'];

/** One network namespace. */
export class Host {
  readonly namespace: string;
  readonly ips: readonly string[];
  /** Runs programs inside the namespace: give it to a backend, and its `nft` programs this host's kernel tables. */
  readonly exec: Exec;
  readonly follow: Follow;
  readonly #agent: NetnsAgent;
  /** Entering a namespace costs more than most tools do. */
  readonly #shells: ToolShells;

  constructor(namespace: string, ips: readonly string[]) {
    this.namespace = namespace;
    this.ips = ips;
    const enter = ['netns', 'exec', namespace];
    const direct: Exec = {
      run: (file, args, options) => systemExec.run('ip', [...enter, file, ...args], options),
    };
    this.exec = this.#shells = new ToolShells(direct, ['ip', ...enter, 'sh', '-s']);
    this.follow = (file, args, handlers) => systemFollow('ip', ['netns', 'exec', namespace, file, ...args], handlers);
    this.#agent = new NetnsAgent(namespace);
  }

  /** Answers on address and port with `name`, until the topology is closed or `stop` is called. */
  serve(options: ServeOptions): Promise<{ stop(): Promise<void> }> {
    return socketAgent.serve(this.namespace, options);
  }

  /**
   * Opens one connection (or sends one datagram) and says how it ended: answered, refused (reset or ICMP),
   * unreachable (the kernel knew no way) or silence within `timeoutMs`.
   */
  connect(options: ConnectOptions): Promise<Outcome> {
    return socketAgent.connect(this.namespace, options);
  }

  /** Opens a connection to each target every few milliseconds, until `stop`, which gives the counts. */
  hammer(options: HammerOptions): Promise<{ stop(): Promise<HammerResult> }> {
    return this.#agent.hammer(options);
  }

  /** One TCP connection that sends every few milliseconds, until it is closed. */
  talk(options: TalkOptions): ReturnType<NetnsAgent['talk']> {
    return this.#agent.talk(options);
  }

  /** One TCP connection that reads slowly what the server sends, until it is hurried or closed. */
  download(options: DownloadOptions): ReturnType<NetnsAgent['download']> {
    return this.#agent.download(options);
  }

  /** Runs a program inside and returns its standard output. Rejects when it fails. */
  async run(file: string, ...args: readonly string[]): Promise<string> {
    const result = await this.exec.run(file, args);
    if (result.exitCode !== 0) throw new Error(`${file} ${args.join(' ')}: ${result.stderr}`);
    return result.stdout;
  }

  async close(): Promise<void> {
    await Promise.all([this.#agent.close(), socketAgent.leave(this.namespace), this.#shells.close()]);
  }
}

/** A node with its pods and a client. Close it in `afterEach` or `afterAll`; closing removes every namespace. */
export class Topology {
  readonly node: Host;
  readonly client: Host;
  readonly #prefix: string;
  readonly #hosts: Host[] = [];
  #links = 0;

  private constructor(prefix: string, node: Host, client: Host) {
    this.#prefix = prefix;
    this.node = node;
    this.client = client;
    this.#hosts.push(node, client);
  }

  static async create(options: TopologyOptions = {}): Promise<Topology> {
    await removeStaleNamespaces();
    const prefix = `fl${process.pid}-${nextTopology++}`;
    const node = new Host(`${prefix}-node`, options.nodeIps ?? NODE_IPS);
    const client = new Host(`${prefix}-client`, options.clientIps ?? CLIENT_IPS);
    const topology = new Topology(prefix, node, client);
    try {
      await topology.#makeNode();
      await topology.#makeClient();
    } catch (error) {
      await topology.close();
      throw error;
    }
    return topology;
  }

  /**
   * A pod (or any other host behind the node) with these addresses, at most one of each family. Its only way out is
   * through the node. `name` is for the namespace only: letters and digits.
   */
  async addPod(name: string, ips: readonly string[]): Promise<Host> {
    const pod = new Host(`${this.#prefix}-${name}`, ips);
    await ip(['netns', 'add', pod.namespace]);
    this.#hosts.push(pod);
    const link = `pod${this.#links++}`;
    await ip([
      'link',
      'add',
      link,
      'netns',
      this.node.namespace,
      'type',
      'veth',
      'peer',
      'eth0',
      'netns',
      pod.namespace,
    ]);
    await quiet(pod.namespace);
    await inside(pod.namespace, [
      'link set lo up',
      'link set eth0 up',
      ...ips.map((address) => `addr add ${host(address)} dev eth0${dad(address)}`),
      ...families(ips).map((family) =>
        family === 4
          ? `route add default via ${GATEWAY_4} dev eth0 onlink`
          : `route add ::/0 via ${GATEWAY_6} dev eth0 onlink`,
      ),
    ]);
    await inside(this.node.namespace, [
      `link set ${link} up`,
      `addr add ${GATEWAY_4}/32 dev ${link}`,
      `addr add ${GATEWAY_6}/64 dev ${link} nodad`,
      ...ips.map((address) => this.#routeTo(address, link)),
    ]);
    return pod;
  }

  /** A further address of the outside client, known to the node. */
  async addClientAddress(address: string): Promise<void> {
    await inside(this.client.namespace, [`addr add ${host(address)} dev eth0${dad(address)}`]);
    await inside(this.node.namespace, [this.#routeTo(address, 'eth0')]);
  }

  /** Removes every namespace; ends every agent. Never rejects. */
  async close(): Promise<void> {
    await Promise.all(this.#hosts.map((each) => each.close()));
    for (const each of this.#hosts) await ip(['netns', 'del', each.namespace]).catch(() => undefined);
    this.#hosts.length = 0;
  }

  async #makeNode(): Promise<void> {
    await ip(['netns', 'add', this.node.namespace]);
    await quiet(this.node.namespace);
    await sysctl(this.node.namespace, {
      'net.ipv4.ip_forward': '1',
      'net.ipv6.conf.all.forwarding': '1',
      // Refusals are counted in tests: none may fall to the rate limit.
      'net.ipv4.icmp_ratelimit': '0',
      'net.ipv6.icmp.ratelimit': '0',
    });
    await inside(this.node.namespace, ['link set lo up']);
  }

  async #makeClient(): Promise<void> {
    const { node, client } = this;
    await ip(['netns', 'add', client.namespace]);
    await ip([
      'link',
      'add',
      'eth0',
      'netns',
      node.namespace,
      'type',
      'veth',
      'peer',
      'eth0',
      'netns',
      client.namespace,
    ]);
    await quiet(client.namespace);
    await inside(node.namespace, [
      'link set eth0 up',
      ...node.ips.map((address) => `addr add ${host(address)} dev eth0${dad(address)}`),
      ...client.ips.map((address) => this.#routeTo(address, 'eth0')),
      // The node has a way to everywhere, as real nodes do: its own packets to a Service address need one to start with.
      ...families(node.ips).flatMap((family) => {
        const gateway = client.ips.find((address) => familyOf(address) === family);
        return gateway ? [`route add ${anywhere(gateway)} via ${gateway} dev eth0 onlink`] : [];
      }),
    ]);
    await inside(client.namespace, [
      'link set lo up',
      'link set eth0 up',
      ...client.ips.map((address) => `addr add ${host(address)} dev eth0${dad(address)}`),
      ...families(client.ips).flatMap((family) => {
        const gateway = node.ips.find((address) => familyOf(address) === family);
        return gateway ? [`route add ${anywhere(gateway)} via ${gateway} dev eth0 onlink`] : [];
      }),
    ]);
  }

  #routeTo(address: string, link: string): string {
    const source = this.node.ips.find((each) => familyOf(each) === familyOf(address));
    return `route add ${host(address)} dev ${link}${source ? ` src ${source}` : ''}`;
  }
}

let nextTopology = 0;

/** A single empty namespace, for tests and benchmarks that only need tables of their own. */
export async function createNamespace(name: string): Promise<Host> {
  await removeStaleNamespaces();
  const namespace = `fl${process.pid}-${nextTopology++}-${name}`;
  await ip(['netns', 'add', namespace]);
  await inside(namespace, ['link set lo up']);
  return new Host(namespace, []);
}

export async function removeNamespace(host: Host): Promise<void> {
  await host.close();
  await ip(['netns', 'del', host.namespace]).catch(() => undefined);
}

/** Removes the namespaces of test processes that are no more. */
export async function removeStaleNamespaces(): Promise<void> {
  const { stdout } = await execFileAsync('ip', ['netns', 'list']);
  for (const line of stdout.split('\n')) {
    const match = /^(fl([0-9]+)-\S+)/.exec(line);
    if (match?.[1] && !isAlive(Number(match[2]))) await ip(['netns', 'del', match[1]]).catch(() => undefined);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function existsIn(folder: string, tool: string): boolean {
  try {
    return readdirSync(folder).includes(tool);
  } catch {
    return false;
  }
}

async function ip(args: readonly string[]): Promise<void> {
  await execFileAsync('ip', [...args]);
}

async function inside(namespace: string, lines: readonly string[]): Promise<void> {
  const result = await systemExec.run('ip', ['-n', namespace, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  if (result.exitCode !== 0) throw new Error(`ip in ${namespace}: ${result.stderr}\n${lines.join('\n')}`);
}

async function sysctl(namespace: string, values: Readonly<Record<string, string>>): Promise<void> {
  const lines = Object.entries(values).map(([name, value]) => `echo ${value} > /proc/sys/${name.replaceAll('.', '/')}`);
  await execFileAsync('ip', ['netns', 'exec', namespace, 'sh', '-c', lines.join('\n')]);
}

/** No reverse-path filter and no duplicate address detection: what is set up answers at once. */
function quiet(namespace: string): Promise<void> {
  return sysctl(namespace, {
    'net.ipv4.conf.all.rp_filter': '0',
    'net.ipv4.conf.default.rp_filter': '0',
    'net.ipv6.conf.all.accept_dad': '0',
    'net.ipv6.conf.default.accept_dad': '0',
    'net.ipv6.conf.all.accept_ra': '0',
  });
}

function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

function families(addresses: readonly string[]): readonly (4 | 6)[] {
  return [...new Set(addresses.map(familyOf))];
}

function anywhere(gateway: string): string {
  return familyOf(gateway) === 6 ? '::/0' : '0.0.0.0/0';
}

function host(address: string): string {
  return `${address}/${familyOf(address) === 4 ? 32 : 128}`;
}

function dad(address: string): string {
  return familyOf(address) === 6 ? ' nodad' : '';
}
