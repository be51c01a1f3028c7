// The node's side of its own DNS server: addresses on an interface, and rules; looked after while the server runs, and taken away at its end.

import { ipFamily, type Ip } from '../../lib/ip.ts';
import type { Logger } from '../../observe/log.ts';
import type { Count, Meters } from '../../observe/metrics.ts';
import type { Clock } from '../../system/clock.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import { NODE_LOCAL_TABLE, renderRules } from './rules.ts';

export interface NodeLocalOptions {
  readonly ips: readonly Ip[];
  readonly healthPort: number;
  readonly setUpInterface: boolean;
  readonly interfaceName: string;
  readonly setUpRules: boolean;
  /** How often both are looked after. */
  readonly intervalMs: number;
  /** Leaves them where they are at the end: the next server takes over without a gap. */
  readonly skipTeardown: boolean;
  readonly exec: Exec;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Meters;
}

const LOOPBACK = 'lo';
const TOOL_MS = 10_000;

export class NodeLocal {
  readonly #options: NodeLocalOptions;
  readonly #errors: Count;
  readonly #stopping = new AbortController();
  /** Where the addresses are: the interface of the flags, or the loopback one where the kernel has no dummy device. */
  #device: string;
  /** Addresses to be taken off the loopback interface at the end. */
  readonly #added = new Set<Ip>();
  #listed = '';
  #loop: Promise<void> = Promise.resolve();

  constructor(options: NodeLocalOptions) {
    this.#options = options;
    this.#device = options.interfaceName;
    this.#errors = options.metrics.counter({
      name: 'coredns_nodecache_setup_errors_total',
      help: 'Failures to set up the interface or the rules of the node, by kind.',
      labels: ['errortype'],
    });
    for (const errortype of ['iptables', 'interface_add', 'interface_check', 'configmap'])
      this.#errors.add(0, { errortype });
  }

  /** A ConfigMap that cannot be used. */
  badConfigMap(): void {
    this.#errors.add(1, { errortype: 'configmap' });
  }

  /** Sets both up, and from now on looks after them. Never rejects: what fails is in the log, and tried again. */
  async start(): Promise<void> {
    await this.#ensure();
    this.#loop = this.#keep();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    const { skipTeardown, setUpInterface, setUpRules, log } = this.#options;
    if (skipTeardown) return;
    if (setUpRules && this.#listed !== '') await this.#run('nft', ['delete', 'table', 'inet', NODE_LOCAL_TABLE]);
    if (setUpInterface) await this.#removeAddresses();
    log.info('the node is as it was: interface and rules are removed');
  }

  async #keep(): Promise<void> {
    const { clock, intervalMs } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await clock.sleep(intervalMs, signal);
      if (!signal.aborted) await this.#ensure();
    }
  }

  async #ensure(): Promise<void> {
    if (this.#options.setUpInterface) await this.#ensureInterface();
    if (this.#options.setUpRules) await this.#ensureRules();
  }

  async #ensureInterface(): Promise<void> {
    const { ips, interfaceName, log } = this.#options;
    if (this.#device === interfaceName) {
      const exists = (await this.#run('ip', ['link', 'show', 'dev', interfaceName])).exitCode === 0;
      const made = exists ? undefined : await this.#run('ip', ['link', 'add', interfaceName, 'type', 'dummy']);
      if (made && made.exitCode !== 0) {
        if (!/not supported|Unknown device type/i.test(made.stderr)) {
          this.#failed('interface_add', `cannot make the interface ${interfaceName}`, made, 'ip');
          return;
        }
        log.warn('this kernel has no dummy device (module dummy); the addresses are put on the loopback interface', {
          interface: interfaceName,
          instead: LOOPBACK,
        });
        this.#device = LOOPBACK;
      } else await this.#run('ip', ['link', 'set', 'dev', interfaceName, 'up']);
    }
    const shown = await this.#run('ip', ['-o', 'address', 'show', 'dev', this.#device]);
    if (shown.exitCode !== 0) {
      this.#failed('interface_check', `cannot look at the interface ${this.#device}`, shown, 'ip');
      return;
    }
    for (const ip of ips) {
      const range = `${ip}/${ipFamily(ip) === 4 ? 32 : 128}`;
      if (shown.stdout.includes(` ${range} `)) {
        // Left by the server before us, or put there for us: ours to take away.
        this.#added.add(ip);
        continue;
      }
      // Without duplicate address detection, in which an IPv6 address cannot be listened on.
      const more = ipFamily(ip) === 4 ? [] : ['nodad'];
      const added = await this.#run('ip', ['address', 'add', range, 'dev', this.#device, ...more]);
      if (added.exitCode !== 0) this.#failed('interface_add', `cannot add the address ${ip}`, added, 'ip');
      else {
        this.#added.add(ip);
        log.info('the node has an address of the DNS server', { address: ip, interface: this.#device });
      }
    }
  }

  async #ensureRules(): Promise<void> {
    const { log } = this.#options;
    const list = ['list', 'table', 'inet', NODE_LOCAL_TABLE];
    const before = await this.#run('nft', list);
    if (before.exitCode === 0 && before.stdout === this.#listed) return;
    const applied = await this.#run('nft', ['-f', '-'], renderRules(this.#options));
    if (applied.exitCode !== 0) {
      this.#failed('iptables', 'cannot keep DNS out of connection tracking', applied, 'nft');
      return;
    }
    if (this.#listed !== '') log.warn('the rules of the DNS server had been changed, and are as they should be again');
    this.#listed = (await this.#run('nft', list)).stdout;
  }

  async #removeAddresses(): Promise<void> {
    const { interfaceName } = this.#options;
    if (this.#device === interfaceName) {
      await this.#run('ip', ['link', 'delete', interfaceName]);
      return;
    }
    for (const ip of this.#added)
      await this.#run('ip', ['address', 'delete', `${ip}/${ipFamily(ip) === 4 ? 32 : 128}`, 'dev', this.#device]);
  }

  #run(tool: string, args: readonly string[], input?: string): Promise<ExecResult> {
    return this.#options.exec.run(tool, args, { timeoutMs: TOOL_MS, ...(input === undefined ? {} : { input }) });
  }

  #failed(errortype: string, what: string, result: ExecResult, tool: string): void {
    const { intervalMs, log } = this.#options;
    this.#errors.add(1, { errortype });
    const why = result.notFound
      ? `${tool} is not on this machine; install ${tool === 'nft' ? 'nftables' : 'iproute2'}`
      : /not permitted|Permission denied/i.test(result.stderr)
        ? 'it needs the privilege NET_ADMIN; grant it, or switch this off with --setupinterface=false or --setupiptables=false'
        : result.stderr.trim().split('\n')[0];
    log.error(`${what}; it is tried again in ${intervalMs / 1000} s`, { error: why ?? '' });
  }
}
