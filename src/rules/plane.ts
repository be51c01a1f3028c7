// The rules plane: the backend that the mode asks for behind the sync loop, as the composition root knows it.

import type { Plane } from '../model/plane.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Logger } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import type { Exec } from '../system/exec.ts';
import type { Follow } from '../system/follow.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import type { RulesBackend, RulesMode } from './backend.ts';
import { NOTHING } from './cleanup-outcome.ts';
import { configFor, type RulesConfig, type RulesSettings } from './config.ts';
import type { HealthCheck } from './health-check/plan.ts';
import type { ProxyHealth } from './health-check/proxy-health.ts';
import { HealthCheckServers } from './health-check/servers.ts';
import { choose, type Choice, type RulesModeChoice } from './mode.ts';
import { exposeOccupancy } from './conntrack/occupancy.ts';
import { ConntrackReconciler } from './conntrack/reconcile.ts';
import { SyncLoop, type SyncObserver } from './sync.ts';

export interface RulesPlaneOptions {
  readonly mode: RulesModeChoice;
  readonly config: RulesSettings;
  readonly exec: Exec;
  /** Without it changes that others make to the rules are not noticed. */
  readonly follow?: Follow;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Take the rules out of the kernel when stopping. Otherwise they stay and go on serving, as kube-proxy's do. */
  readonly removeOnStop: boolean;
  /** Told how the rules keep up, and asked for it by health-check node ports. Without it there are none of those. */
  readonly health?: ProxyHealth;
  /** A health-check node port that cannot be listened on. */
  readonly onHealthCheckFailure?: (check: HealthCheck, message: string) => void;
  /** Awaited once it is certain that this machine can carry the mode, before anything is changed. */
  readonly onChosen?: (mode: RulesMode) => Promise<void>;
}

export interface RulesPlane extends Plane {
  readonly name: 'rules';
  readonly mode: RulesMode;
  /** Works by another configuration from now on, with one more sync. */
  configure(settings: RulesSettings): void;
}

/** Chooses the backend and starts the loop; the first `update` brings the first sync. Rejects with RulesError when the mode cannot be had here. */
export async function startRulesPlane(options: RulesPlaneOptions): Promise<RulesPlane> {
  const choice = await choose(options.mode, options.config, options.exec, (notice) => options.log.warn(notice));
  const { mode } = choice;
  await options.onChosen?.(mode);
  const ready = { ...options, config: configFor(mode, options.config) };
  const backend = await createBackend(choice, ready);
  options.log.debug('backend chosen', { mode });
  return planeOf(backend, ready);
}

/** A plane around a backend that is already there. */
export function planeOf(
  backend: RulesBackend,
  options: RulesPlaneOptions & { readonly config: RulesConfig },
): RulesPlane {
  const { config, clock, random, log, metrics } = options;
  const checks = healthCheckServers(options);
  // Relays choose for themselves; the kernel's choices are tracked flows.
  const flows = backend.mode === 'userspace' ? undefined : new ConntrackReconciler(options);
  if (flows) exposeOccupancy(metrics);
  const loop = new SyncLoop({
    backend,
    minSyncPeriodMs: config.minSyncPeriodMs,
    clock,
    random,
    log,
    metrics,
    observer: observerOf(options.health, checks, flows),
  });
  let stopping: Promise<void> | undefined;
  return {
    name: 'rules',
    mode: backend.mode,
    update: (snapshot: Snapshot) => loop.update(snapshot),
    configure: (settings) => {
      const next = configFor(backend.mode, settings);
      loop.configure(next);
      checks?.configure(next.nodePortAddresses);
      flows?.configure(next);
    },
    get ready() {
      return loop.ready;
    },
    state: () => ({
      mode: backend.mode,
      revision: loop.appliedRevision,
      problem: loop.problem,
      backend: backend.state(),
      healthChecks: checks?.state(),
    }),
    stop: () => (stopping ??= stop({ loop, flows, checks, backend }, options)),
  };
}

function healthCheckServers(
  options: RulesPlaneOptions & { readonly config: RulesConfig },
): HealthCheckServers | undefined {
  const { health, clock, log, config, onHealthCheckFailure } = options;
  if (!health) return undefined;
  return new HealthCheckServers({
    nodePortAddresses: config.nodePortAddresses,
    isHealthy: () => health.isHealthy(clock.now()),
    addresses: interfaceAddresses,
    onFailure: onHealthCheckFailure ?? (() => {}),
    clock,
    log,
  });
}

/** Health checks follow what is in force: a load balancer must not be sent here before the rules are. */
function observerOf(
  health: ProxyHealth | undefined,
  checks: HealthCheckServers | undefined,
  flows: ConntrackReconciler | undefined,
): SyncObserver {
  return {
    queued: (family, now) => health?.queued(family, now),
    updated: (family, start, now) => health?.updated(family, start, now),
    applied: (snapshot) => {
      checks?.update(snapshot);
      flows?.applied(snapshot);
    },
  };
}

interface Parts {
  readonly loop: SyncLoop;
  readonly flows: ConntrackReconciler | undefined;
  readonly checks: HealthCheckServers | undefined;
  readonly backend: RulesBackend;
}

async function stop({ loop, flows, checks, backend }: Parts, { removeOnStop, log }: RulesPlaneOptions): Promise<void> {
  await Promise.all([loop.stop(), checks?.stop()]);
  await flows?.stop();
  if (removeOnStop) {
    const { removed, problems } = await backend.cleanup();
    for (const problem of problems) log.error(problem);
    if (removed.length > 0) log.info('rules removed', { what: removed.join(', ') });
  }
  await backend.stop();
}

/** A backend's code is loaded when it is chosen. */
async function createBackend(
  { mode, iptables }: Choice,
  options: RulesPlaneOptions & { readonly config: RulesConfig },
): Promise<RulesBackend> {
  const { exec, clock, log } = options;
  switch (mode) {
    case 'nftables': {
      const { NftablesBackend } = await import('./nftables/apply.ts');
      const { removeOthersThanNftables, withTakeover } = await import('./takeover.ts');
      const { IpvsLeftover } = await import('./ipvs/leftover.ts');
      const ipvs = new IpvsLeftover({ exec, clock, log, chains: { which: 'all' } });
      return withTakeover(new NftablesBackend(options), () => removeOthersThanNftables(exec, ipvs), log, ipvs);
    }
    case 'iptables': {
      const { IptablesBackend } = await import('./iptables/apply.ts');
      const { removeOthersThanIptables, withTakeover } = await import('./takeover.ts');
      const backend = new IptablesBackend({ ...options, tool: iptables });
      const { IpvsLeftover } = await import('./ipvs/leftover.ts');
      const ipvs = new IpvsLeftover({ exec, clock, log, chains: { which: 'ipvs' } });
      return withTakeover(backend, () => removeOthersThanIptables(exec, backend.variantInUse, ipvs), log, ipvs);
    }
    case 'ipvs': {
      const { IpvsBackend } = await import('./ipvs/apply.ts');
      const { removeOthersThanIpvs, withTakeover } = await import('./takeover.ts');
      const backend = new IpvsBackend({ ...options, tool: iptables });
      return withTakeover(backend, () => removeOthersThanIpvs(exec, backend.variantInUse), log);
    }
    case 'userspace': {
      const { createUserspaceBackend } = await import('./userspace/backend.ts');
      const { removeOthersThanUserspace, withTakeover } = await import('./takeover.ts');
      const backend = createUserspaceBackend(options);
      const { IpvsLeftover } = await import('./ipvs/leftover.ts');
      const ipvs = new IpvsLeftover({ exec, clock, log, chains: { which: 'all' } });
      // Relays that the kernel does not lead to leave its rules alone.
      const remove = async () => (backend.catches ? removeOthersThanUserspace(exec, ipvs) : NOTHING);
      return withTakeover(backend, remove, log, ipvs);
    }
  }
}
