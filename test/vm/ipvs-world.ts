// A node in IPVS mode with Pods and a client around it, whose Services are changed as the API server would: each state builds on the one before.

import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import { silentLogger, type Logger } from '../../src/observe/log.ts';
import type { Resolution } from '../../src/model/resolve.ts';
import type { RulesSettings } from '../../src/rules/config.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { cleanupRules } from '../../src/rules/cleanup.ts';
import { systemClock, type Clock } from '../../src/system/clock.ts';
import type { Exec } from '../../src/system/exec.ts';
import { CONFIG, clusterOf, type ServiceSketch } from '../rules/cluster.ts';
import { Topology, type Host } from '../support/netns.ts';
import { until } from '../support/until.ts';

/** Programs take ten times as long as outside. */
export const LIMIT_MS = 300_000;
export const WAIT_MS = 120_000;

export const SETTINGS: RulesSettings = { ...CONFIG, nodePortAddresses: 'by-mode' };

/** Whoever wants to look again after a longer while looks after a second: the kernel is what is waited for. */
const hastened: Clock = { ...systemClock, after: (ms, call) => systemClock.after(Math.min(ms, 1000), call) };

export interface StartOptions {
  readonly settings?: RulesSettings;
  readonly log?: Logger;
  /** In place of the node's own tools. */
  readonly exec?: Exec;
}

export class IpvsWorld {
  readonly topology: Topology;
  /** Of the plane that runs, or ran last. */
  metrics: Metrics = createMetrics();
  readonly #pods = new Map<string, Host>();
  #plane: RulesPlane | undefined;
  #resolution: Resolution | undefined;
  #sketches = new Map<string, ServiceSketch>();

  private constructor(topology: Topology) {
    this.topology = topology;
  }

  /** With Pods of these names and addresses. */
  static async create(pods: Readonly<Record<string, string>>): Promise<IpvsWorld> {
    const world = new IpvsWorld(await Topology.create());
    try {
      for (const [name, ip] of Object.entries(pods)) world.#pods.set(name, await world.topology.addPod(name, [ip]));
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  get node(): Host {
    return this.topology.node;
  }

  get client(): Host {
    return this.topology.client;
  }

  get plane(): RulesPlane {
    if (!this.#plane) throw new Error('no plane runs');
    return this.#plane;
  }

  pod(name: string): Host {
    const pod = this.#pods.get(name);
    if (!pod) throw new Error(`no Pod ${name}`);
    return pod;
  }

  /** A plane over what is in the kernel, with these Services and no others. */
  async start(sketches: readonly ServiceSketch[], options: StartOptions = {}): Promise<void> {
    const { settings = SETTINGS, log = silentLogger, exec = this.node.exec } = options;
    this.metrics = createMetrics();
    this.#resolution = undefined;
    this.#sketches = new Map(sketches.map((sketch) => [sketch.name, sketch]));
    this.#plane = await startRulesPlane({
      mode: 'ipvs',
      config: settings,
      exec,
      follow: this.node.follow,
      clock: hastened,
      random: Math.random,
      log,
      metrics: this.metrics,
      removeOnStop: false,
    });
    this.update();
    await this.inForce();
  }

  /** These Services anew, or changed, without waiting. */
  update(...sketches: readonly ServiceSketch[]): void {
    for (const sketch of sketches) this.#sketches.set(sketch.name, sketch);
    this.#resolution = clusterOf([...this.#sketches.values()], this.#resolution);
    this.plane.update(this.#resolution.snapshot);
  }

  /** The same, in force. */
  async change(...sketches: readonly ServiceSketch[]): Promise<void> {
    this.update(...sketches);
    await this.inForce();
  }

  /** Resolves when what was given last is in force, or something newer. */
  async inForce(): Promise<void> {
    const revision = this.#resolution?.snapshot.revision ?? 0;
    await until(() => ((this.plane.state() as { revision?: number }).revision ?? -1) >= revision, WAIT_MS);
  }

  async stop(): Promise<void> {
    await this.#plane?.stop();
    this.#plane = undefined;
  }

  /** Stops, and takes everything of ours out of the kernel. */
  async clean(): Promise<void> {
    await this.stop();
    await cleanupRules(this.node);
  }

  async close(): Promise<void> {
    await this.stop();
    await this.topology.close();
  }

  /** Virtual and real servers, as the tool says them. */
  servers(): Promise<string> {
    return this.node.run('ipvsadm', '--save', '--numeric');
  }

  /** Who answers one connection, or how it ended. */
  async dial(address: string, port = 80): Promise<string> {
    const outcome = await this.client.connect({ protocol: 'TCP', address, port });
    return outcome.kind === 'answered' ? outcome.by : outcome.kind;
  }
}
