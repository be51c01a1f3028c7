// How the proxy of a steady world is run: as a process that follows an API server, as a user has it; or as planes in this process, which start
// in a moment where a processor is emulated.

import { silentLogger, type Logger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { nodeIdentity } from '../../src/model/node.ts';
import { resolve, type Resolution } from '../../src/model/resolve.ts';
import type { RulesMode } from '../../src/rules/backend.ts';
import { cleanupRules } from '../../src/rules/cleanup.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { buildRecords } from '../../src/source/manifests/build.ts';
import { Store } from '../../src/source/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { CONFIG } from '../rules/cluster.ts';
import type { Json } from './api-server/json.ts';
import { RemoteApiServer } from './api-server/remote.ts';
import { cpuSecondsOf, type CpuSeconds } from './cpu-time.ts';
import type { Host } from './netns.ts';
import { FairleadProcess, runFairlead, type LogLine } from './process.ts';
import { SLOWNESS } from './slowness.ts';
import { until } from './until.ts';
import { cidr } from './values.ts';

export interface ProxyRunner {
  /** What was logged by the proxy that runs now. */
  readonly log: readonly LogLine[];
  /** Makes the objects, or changes them, without waiting for the rules. */
  apply(...objects: readonly Json[]): Promise<void>;
  /** Starts a proxy, and waits until its rules are in force. */
  start(mode: string, flags: readonly string[]): Promise<void>;
  /** Ends it; its rules stay. */
  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Resolves with the first line that fits, among those there are and those to come. */
  logged(fits: (line: LogLine) => boolean): Promise<LogLine>;
  /** Removes everything of ours from the node, as `fairlead cleanup` does. */
  cleanup(): Promise<void>;
  /** So far, of all proxies that were started and the tools that they have run. */
  cpuSeconds(): CpuSeconds;
  close(): Promise<void>;
}

export function sumOf(a: CpuSeconds, b: CpuSeconds): CpuSeconds {
  return { own: a.own + b.own, tools: a.tools + b.tools };
}

const NO_TIME: CpuSeconds = { own: 0, tools: 0 };
const LIMIT_MS = 30_000;

/** `fairlead proxy` as a process on the node, one after the other or side by side. */
export class ProxyProcesses implements ProxyRunner {
  readonly #api: RemoteApiServer;
  readonly #node: Host;
  readonly #processes: FairleadProcess[] = [];
  #spent = NO_TIME;

  private constructor(api: RemoteApiServer, node: Host) {
    this.#api = api;
    this.#node = node;
  }

  static async on(node: Host): Promise<ProxyProcesses> {
    return new ProxyProcesses(await RemoteApiServer.start(node.namespace), node);
  }

  /** The one that was started last. */
  get proxy(): FairleadProcess {
    const proxy = this.#processes.at(-1);
    if (!proxy) throw new Error('no proxy runs');
    return proxy;
  }

  get log(): readonly LogLine[] {
    return this.proxy.log;
  }

  apply(...objects: readonly Json[]): Promise<void> {
    return this.#api.apply(...objects);
  }

  async start(mode: string, flags: readonly string[]): Promise<void> {
    const words = ['--master', this.#api.url, `--mode=${mode}`, '--node-name=node-a', '--cluster-cidr=10.0.0.0/8'];
    const proxy = new FairleadProcess(['proxy', ...words, '--logging-format=json', ...flags], {
      namespace: this.#node.namespace,
    });
    this.#processes.push(proxy);
    const ended = proxy.exited.then(() => {
      throw new Error(`the proxy ended: ${proxy.stderr}`);
    });
    await Promise.race([proxy.logged(({ message }) => message === 'rules in force', LIMIT_MS * SLOWNESS), ended]);
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#spent = sumOf(this.#spent, cpuSecondsOf(this.proxy.pid));
    this.proxy.kill(signal);
    await this.proxy.exited;
  }

  logged(fits: (line: LogLine) => boolean): Promise<LogLine> {
    return this.proxy.logged(fits);
  }

  async cleanup(): Promise<void> {
    const { code, stdout, stderr } = await runFairlead(['cleanup'], { namespace: this.#node.namespace });
    if (code !== 0) throw new Error(`cleanup: ${stdout}${stderr}`);
  }

  cpuSeconds(): CpuSeconds {
    return sumOf(this.#spent, cpuSecondsOf(this.proxy.pid));
  }

  async close(): Promise<void> {
    await Promise.all(this.#processes.map((each) => each.close()));
    await this.#api.close();
  }
}

const NODE_NAME = 'node-a';
const RESETS = '--reset-tcp-to-deleted-endpoints=true';

/** Rules planes of this process whose tools run on the node. Whatever signal ends one, it ends without a trace; relays have to be processes. */
export class ProxyPlanes implements ProxyRunner {
  readonly log: LogLine[] = [];
  readonly #node: Host;
  readonly #store = new Store();
  readonly #objects = new Map<string, Json>();
  #resolution: Resolution | undefined;
  #plane: RulesPlane | undefined;

  constructor(node: Host) {
    this.#node = node;
  }

  apply(...objects: readonly Json[]): Promise<void> {
    for (const object of objects) {
      const { namespace, name } = object['metadata'] as { namespace?: string; name?: string };
      this.#objects.set(`${String(object['kind'])} ${namespace ?? ''}/${name ?? ''}`, object);
    }
    this.#plane?.update(this.#resolve().snapshot);
    return Promise.resolve();
  }

  async start(mode: string, flags: readonly string[]): Promise<void> {
    const node = this.#node;
    this.log.length = 0;
    const plane = await startRulesPlane({
      mode: mode as Exclude<RulesMode, 'userspace'>,
      config: { ...CONFIG, nodePortAddresses: 'by-mode', resetTcpToDeletedEndpoints: flags.includes(RESETS) },
      exec: node.exec,
      follow: node.follow,
      clock: systemClock,
      random: Math.random,
      log: this.#logger(),
      metrics: createMetrics(),
      removeOnStop: false,
    });
    this.#plane = plane;
    plane.update(this.#resolve().snapshot);
    await this.logged(({ message }) => message === 'rules in force');
  }

  async stop(): Promise<void> {
    await this.#plane?.stop();
    this.#plane = undefined;
  }

  logged(fits: (line: LogLine) => boolean): Promise<LogLine> {
    const limit = LIMIT_MS * SLOWNESS;
    return until(
      () => this.log.find(fits),
      limit,
      () => `no such log line. There is:\n${this.log.map((line) => JSON.stringify(line)).join('\n')}`,
    );
  }

  async cleanup(): Promise<void> {
    const { problems } = await cleanupRules(this.#node);
    if (problems.length > 0) throw new Error(`cleanup: ${problems.join('; ')}`);
  }

  cpuSeconds(): CpuSeconds {
    return NO_TIME;
  }

  close(): Promise<void> {
    return this.stop();
  }

  #resolve(): Resolution {
    const documents = [...this.#objects.values()].map((object) => ({ file: 'test', line: 1, object }));
    const clusterIPRanges = [cidr('172.30.0.0/16')];
    const { entries, errors } = buildRecords(documents, { clusterIPRanges, nodeName: NODE_NAME });
    const [error] = errors;
    if (error) throw new Error(error.message);
    this.#store.replaceAll(entries);
    const { records } = this.#store;
    return (this.#resolution = resolve(records, nodeIdentity(records, NODE_NAME), this.#resolution));
  }

  #logger(): Logger {
    const keep =
      (level: string) =>
      (message: string, fields: object = {}): void =>
        void this.log.push({ level, message, ...fields });
    const logger: Logger = {
      ...silentLogger,
      info: keep('info'),
      warn: keep('warn'),
      error: keep('error'),
      named: () => logger,
    };
    return logger;
  }
}
