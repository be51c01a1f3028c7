// The userspace backend: TCP and UDP relays bound to the Service addresses. Needs no privileges and leaves the kernel's rules alone.

import { ipFamily, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { ResolvedService, ServicePortKey, Snapshot } from '../../model/snapshot.ts';
import type { Logger } from '../../observe/log.ts';
import type { Metrics } from '../../observe/metrics.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import { interfaceAddresses } from '../../system/interfaces.ts';
import { openFilesLimit } from '../../system/proc.ts';
import { systemTcp, type Tcp } from '../../system/tcp.ts';
import { systemUdp, type Udp } from '../../system/udp.ts';
import type { CleanupOutcome, RulesBackend, SyncOutcome } from '../backend.ts';
import { NOTHING } from '../cleanup-outcome.ts';
import type { RulesConfig } from '../config.ts';
import { carriedPorts } from '../intent.ts';
import type { NodeView } from '../packet.ts';
import { Bindings } from './apply.ts';
import type { CatchOutcome } from './catcher.ts';
import { Catching } from './catching.ts';
import { Balancer, endpointKey } from './balance.ts';
import { Limits } from './limits.ts';
import { userspaceMetrics, type ListenerGauges } from './metrics.ts';
import {
  loopNotice,
  sctpNotice,
  servicePortName,
  unboundNotices,
  untoldNotice,
  type Notice,
  type NoticeCause,
} from './notice.ts';
import {
  ListenerTable,
  diffListeners,
  nodePortAddresses,
  sctpPortsOf,
  type Listener,
  type ListenerChanges,
  type ServiceChange,
} from './plan.ts';
import { EndpointOwners } from './loops.ts';
import { TcpRelay } from './relay-tcp.ts';
import { UdpRelay } from './relay-udp.ts';
import type { Destination } from './route.ts';
import { Traffic } from './traffic.ts';

export interface UserspaceOptions {
  readonly config: RulesConfig;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** What `catchAddresses` writes its rules with. */
  readonly exec?: Exec;
  /** In [0, 1). Math.random unless a test wants otherwise. */
  readonly random?: () => number;
  /** How long `stop` waits without any connection ending by itself before it resets those that are left; 3 s unless given. */
  readonly stopGraceMs?: number;
  /** An endpoint that does not accept within this time is given up; 5 s unless given. Others are tried beside it long before. */
  readonly connectTimeoutMs?: number;
  /** A UDP flow ends after this much silence; 60 s unless given. */
  readonly udpIdleTimeoutMs?: number;
  /** How many files this process may have open; as the kernel says unless given. */
  readonly openFiles?: number;
  readonly tcp?: Tcp;
  readonly udp?: Udp;
  /** This machine's addresses, asked at each sync. */
  readonly addresses?: () => readonly Ip[];
}

/** Files that a process may have open where the kernel does not say. */
const FILES = 10_000;
/** A TCP connection that the rules drop is held this long before it is reset. */
const DROP_HOLD_MS = 10_000;
/** None has come for so many looks: none waits any more. */
const LAST_CLIENTS = { everyMs: 50, looks: 4, longestMs: 5000 } as const;

export function createUserspaceBackend(options: UserspaceOptions): RulesBackend & { readonly catches: boolean } {
  return new UserspaceBackend(options);
}

/** What holds of this machine and node for a while. */
interface Surroundings {
  readonly own: readonly Ip[];
  readonly nodePortIps: readonly Ip[];
  readonly view: NodeView;
  /** Equal texts: nothing of the above has changed. */
  readonly fingerprint: string;
}

class UserspaceBackend implements RulesBackend {
  readonly mode = 'userspace';
  readonly #options: UserspaceOptions;
  readonly #traffic = new Traffic();
  readonly #owners = new EndpointOwners();
  readonly #limits: Limits;
  /** Undefined where no addresses are to be caught. */
  readonly #catching: Catching | undefined;
  readonly #tcpRelay: TcpRelay;
  readonly #udpRelay: UdpRelay;
  readonly #bindings: Bindings;
  readonly #gauges: ListenerGauges;
  #config: RulesConfig;
  /** The configuration is another than at the last sync. */
  #isMoved = false;
  #table = new ListenerTable();
  readonly #balancers = new Map<ServicePortKey, Balancer>();
  readonly #sctp = new Set<ServicePortKey>();
  #applied: Snapshot | undefined;
  #surroundings: Surroundings | undefined;
  /** The notice last given for each cause. */
  readonly #notices = new Map<NoticeCause, string>();
  #retryTimer: Timer | undefined;
  #retrying: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: UserspaceOptions) {
    this.#options = options;
    this.#config = options.config;
    const { clock, metrics, log, random = Math.random, tcp = systemTcp, udp = systemUdp } = options;
    const { connections, flows, failures, evictions, ...gauges } = userspaceMetrics(metrics);
    this.#gauges = gauges;
    const files = options.openFiles ?? openFilesLimit() ?? FILES;
    this.#limits = new Limits({ config: options.config.userspace, files, log });
    const onFailure = (protocol: string) => (endpoint: string, code: string) => {
      failures.add(1, { protocol });
      log.debug('endpoint failed', { protocol, endpoint, code });
    };
    this.#tcpRelay = new TcpRelay({
      tcp,
      clock,
      admission: this.#limits.admission,
      connectTimeoutMs: options.connectTimeoutMs ?? 5_000,
      dropHoldMs: DROP_HOLD_MS,
      onCount: (count) => connections.set(count),
      onFailure: onFailure('TCP'),
    });
    this.#udpRelay = new UdpRelay({
      udp,
      clock,
      idleTimeoutMs: options.udpIdleTimeoutMs ?? 60_000,
      maxFlows: () => this.#limits.maxFlows,
      onEviction: () => {
        evictions.add();
        this.#limits.evicted();
      },
      onCount: (count) => {
        flows.set(count);
        this.#limits.carries(count);
      },
      onFailure: onFailure('UDP'),
    });
    this.#traffic.expose(metrics, () => this.#tcpRelay.settle());
    const { kind } = options.config.detectLocal;
    if (kind === 'bridge' || kind === 'interface-prefix') {
      log.warn(
        'a relay does not see the interface that a client comes in on, so no client counts as a local Pod; give --cluster-cidr to tell Pods by address',
      );
    }
    const { tcpRelay, udpRelay } = { tcpRelay: this.#tcpRelay, udpRelay: this.#udpRelay };
    const { exec } = options;
    this.#catching = exec && options.config.userspace.catchAddresses ? new Catching({ exec, clock, log }) : undefined;
    const standIn = (family: IpFamily): Ip | undefined => this.#standIn(family);
    this.#bindings = new Bindings({ tcp, udp, clock, random, tcpRelay, udpRelay, standIn });
  }

  /** No new connection reaches an endpoint that the Snapshot leaves out from the moment of the call, before the promise resolves. */
  async sync(snapshot: Snapshot): Promise<SyncOutcome> {
    this.#retryTimer?.cancel();
    await this.#catching?.prepare();
    const before = this.#surroundings;
    const surroundings = this.#lookAround(snapshot);
    this.#surroundings = surroundings;
    const moved = this.#isMoved || before?.fingerprint !== surroundings.fingerprint;
    this.#isMoved = false;
    const changes = this.#plan(snapshot, surroundings, moved);
    const opening = this.#bindings.apply(changes, (listener) => this.#leadTo(listener, surroundings));
    this.#resetGone(snapshot);
    this.#applied = snapshot;
    await opening;
    await this.#retrying;
    // A new address of this machine may be just the one that was missing.
    await this.#bindings.retry(moved && before ? 'all' : 'due');
    if (moved) await this.#bindings.restand();
    const caught = await this.#catch();
    this.#report();
    if (caught.kind === 'failed') return { kind: 'failed', reason: caught.reason, families: [4, 6] };
    const counts = countsOf(changes, this.#bindings);
    return {
      kind: 'applied',
      counts: caught.kind === 'written' ? { ...counts, caught: this.#bindings.caught().length } : counts,
    };
  }

  configure(config: RulesConfig): void {
    this.#config = config;
    this.#limits.configure(config.userspace);
    this.#surroundings = undefined;
    this.#isMoved = true;
  }

  watch(onDrift: (what: string) => void): void {
    this.#catching?.watch(onDrift);
  }

  async cleanup(): Promise<CleanupOutcome> {
    const rules = (await this.#catching?.remove()) ?? NOTHING;
    await this.#takeLastClients();
    const closed = this.#bindings.closeAll();
    this.#bindings.closeRetired();
    this.#table = new ListenerTable();
    this.#applied = undefined;
    this.#report();
    const listeners = closed === 0 ? [] : [`${closed} userspace listeners`];
    return { removed: [...listeners, ...rules.removed], problems: rules.problems };
  }

  /**
   * Takes the rules that lead here out of the kernel, as nobody would answer, and takes on who had come by them. Then closes the listeners, lets
   * connections end within the grace, and resets the rest.
   */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retryTimer?.cancel();
    await this.#catching?.stop();
    await this.#retrying;
    const rules = await this.#catching?.remove();
    for (const problem of rules?.problems ?? []) this.#options.log.error(problem);
    await this.#takeLastClients();
    this.#bindings.closeAll();
    this.#bindings.closeRetired();
    await this.#tcpRelay.finish(this.#options.stopGraceMs ?? 3_000);
  }

  state(): unknown {
    return {
      mode: this.mode,
      connections: this.#tcpRelay.connections,
      flows: this.#udpRelay.flows,
      listeners: this.#bindings.bound().map(({ listener, clients }) => ({ ...stateOf(listener), clients })),
      unbound: this.#bindings.unbound().map(({ listener, code }) => ({ ...stateOf(listener), reason: code })),
      loops: this.#owners
        .loops(this.#bindings.boundKeys())
        .map(({ servicePort, listener }) => ({ servicePort: servicePortName(servicePort), listener })),
      unsupported: [...this.#sctp].sort(),
    };
  }

  /** Who was led here before the rules went waits to be accepted, and would be reset with the socket that is closed. */
  async #takeLastClients(): Promise<void> {
    if (!this.catches || this.#bindings.boundCount === 0) return;
    const { clock } = this.#options;
    const until = clock.monotonic() + LAST_CLIENTS.longestMs;
    for (let looks = 0, seen = this.#tcpRelay.taken; looks < LAST_CLIENTS.looks && clock.monotonic() < until; looks++) {
      await clock.sleep(LAST_CLIENTS.everyMs);
      if (this.#tcpRelay.taken !== seen) looks = 0;
      seen = this.#tcpRelay.taken;
    }
  }

  #lookAround(snapshot: Snapshot): Surroundings {
    const { addresses = interfaceAddresses } = this.#options;
    const config = this.#config;
    const own = addresses();
    const { ips } = snapshot.node;
    const fingerprint = `${own.join(' ')}|${ips.join(' ')}`;
    if (this.#surroundings?.fingerprint === fingerprint) return this.#surroundings;
    const local = new Set(own);
    const nodePortIps = nodePortAddresses(config.nodePortAddresses, ips, own);
    const view: NodeView = {
      isLocal: (ip) => isLoopback(ip) || local.has(ip),
      isNodePortAddress: (ip) => nodePortIps.includes(ip),
      nodeIps: ips,
      detectLocal: config.detectLocal,
      masqueradeAll: config.masqueradeAll,
    };
    return { own, nodePortIps, view, fingerprint };
  }

  /** Brings table, balancers and the list of SCTP ports up to the Snapshot; says what that means for the listeners. */
  #plan(snapshot: Snapshot, { nodePortIps }: Surroundings, moved: boolean): ListenerChanges {
    const changes: ServiceChange[] = this.#applied
      ? [...snapshot.services.differences(this.#applied.services)]
      : [...snapshot.services.values()].map((after) => ({ before: undefined, after }));
    for (const { before, after } of changes) this.#updatePorts(before, after);
    if (!moved || !this.#applied) return this.#table.change(changes, nodePortIps);
    // NodePorts may listen elsewhere, and sources may be judged otherwise: all of it anew.
    const old = this.#table.listeners();
    this.#table = new ListenerTable();
    const all = [...snapshot.services.values()].map((after) => ({ before: undefined, after }));
    this.#table.change(all, nodePortIps);
    return diffListeners(old, this.#table.listeners());
  }

  #updatePorts(before: ResolvedService | undefined, after: ResolvedService | undefined): void {
    for (const key of sctpPortsOf(before)) this.#sctp.delete(key);
    for (const key of sctpPortsOf(after)) this.#sctp.add(key);
    for (const port of carriedPorts(before)) this.#owners.remove(port);
    for (const port of carriedPorts(after)) {
      this.#owners.add(port);
      const endpoints = [port.cluster, port.local].flatMap((set) => (set.kind === 'used' ? set.endpoints : []));
      let balancer = this.#balancers.get(port.key);
      if (!balancer) {
        balancer = new Balancer((this.#options.random ?? Math.random)());
        this.#balancers.set(port.key, balancer);
      }
      balancer.update(port.affinityTimeoutSeconds, new Set(endpoints.map(endpointKey)));
    }
    const kept = new Set(carriedPorts(after).map((port) => port.key));
    for (const { key } of carriedPorts(before)) {
      if (kept.has(key)) continue;
      this.#balancers.delete(key);
      this.#traffic.forget(key);
    }
  }

  #leadTo({ frontend, protocol, address, port }: Listener, { view }: Surroundings): Destination {
    const { key } = frontend.servicePort;
    const balancer = this.#balancers.get(key);
    if (!balancer) throw new Error(`no balancer for ${key}`);
    const [service = ''] = servicePortName(key).split(':');
    return {
      frontend,
      balancer,
      view,
      at: { ip: address, port },
      proxyProtocol: this.#config.userspace.proxyProtocolTo.includes(service),
      tally: this.#traffic.tallyOf(key),
      isOwn: (endpoint) => this.#bindings.isBound(`${protocol} ${endpointKey(endpoint)}`),
    };
  }

  /** Connections to endpoints that no EndpointSlice names any more end, where the configuration says so; otherwise they run dry. */
  #resetGone(snapshot: Snapshot): void {
    if (!this.#config.resetTcpToDeletedEndpoints || !this.#applied) return;
    for (const { before, after } of snapshot.services.differences(this.#applied.services)) {
      const now = new Map(carriedPorts(after).map((port) => [port.key, new Set(port.endpoints.map(endpointKey))]));
      for (const { key, protocol, endpoints } of carriedPorts(before)) {
        if (protocol !== 'TCP') continue;
        const gone = endpoints.map(endpointKey).filter((endpoint) => now.get(key)?.has(endpoint) !== true);
        if (gone.length > 0) this.#tcpRelay.reset(key, new Set(gone));
      }
    }
  }

  /** Whether Service addresses are led here by the kernel, and other modes' rules have to make room. */
  get catches(): boolean {
    return this.#catching?.isPossible === true;
  }

  /** The node's own address, which others reach and which is this machine's. */
  #standIn(family: IpFamily): Ip | undefined {
    if (!this.catches || !this.#surroundings) return undefined;
    const { own, view } = this.#surroundings;
    const mine = own.filter((ip) => ipFamily(ip) === family && !isLoopback(ip) && !isLinkLocal(ip));
    return mine.find((ip) => view.nodeIps.includes(ip)) ?? mine[0];
  }

  /** Families whose addresses the kernel could lead here, if there were an address to lead them to. */
  #lacking(): ReadonlySet<IpFamily> {
    return new Set(this.catches ? ([4, 6] as const).filter((family) => this.#standIn(family) === undefined) : []);
  }

  async #catch(): Promise<CatchOutcome> {
    if (!this.#catching) return { kind: 'unchanged' };
    const outcome = await this.#catching.write(this.#bindings.caught());
    if (outcome.kind !== 'failed' && !this.#catching.isTakenOver) this.#bindings.closeRetired();
    return outcome;
  }

  /** Gauges, notices, and when to try the unbound again. */
  #report(): void {
    const unbound = this.#bindings.unbound();
    this.#gauges.listeners.set(this.#bindings.boundCount);
    this.#gauges.unbound.set(unbound.length);
    const others = [loopNotice(this.#owners.loops(this.#bindings.boundKeys())), sctpNotice([...this.#sctp])];
    this.#notify(
      [...unboundNotices(unbound, this.#lacking()), ...others, ...this.#settingNotices()].filter(
        (each) => each !== undefined,
      ),
    );
    this.#retryTimer?.cancel();
    const delay = this.#bindings.retryIn();
    if (delay === undefined || this.#stopped) return;
    this.#retryTimer = this.#options.clock.after(delay, () => {
      this.#retrying = this.#retry();
    });
  }

  #settingNotices(): readonly (Notice | undefined)[] {
    const { proxyProtocolTo } = this.#config.userspace;
    const services = this.#applied?.services;
    const untold = services && untoldNotice(proxyProtocolTo.filter((name) => !services.has(name)));
    return [...this.#limits.notices(), untold];
  }

  async #retry(): Promise<void> {
    const before = this.#surroundings;
    if (this.#applied) this.#surroundings = this.#lookAround(this.#applied);
    // An address to lead others to may have come; the next sync sees to the rest.
    const moved = this.#surroundings !== before;
    this.#isMoved ||= moved;
    await this.#bindings.retry(moved ? 'all' : 'due');
    const caught = await this.#catch();
    if (caught.kind === 'failed') this.#options.log.warn(caught.reason);
    this.#report();
  }

  /** A notice is given when it is new or has changed, and once more when its cause is gone. */
  #notify(notices: readonly Notice[]): void {
    const { log } = this.#options;
    for (const { cause, message } of notices) {
      if (this.#notices.get(cause) !== message) log.warn(message);
      this.#notices.set(cause, message);
    }
    for (const cause of this.#notices.keys()) {
      if (notices.some((notice) => notice.cause === cause)) continue;
      this.#notices.delete(cause);
      if (!this.#stopped)
        log.info('settled: what an earlier notice said of Service addresses no longer holds', { cause });
    }
  }
}

function isLinkLocal(ip: Ip): boolean {
  return ip.startsWith('169.254.') || /^fe[89ab]/.test(ip);
}

function countsOf(changes: ListenerChanges, bindings: Bindings): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  const unbound = new Set(bindings.unbound().map(({ listener }) => listener.key));
  const opened = changes.open.filter(({ key }) => !unbound.has(key)).length;
  if (opened > 0) counts['opened'] = opened;
  if (changes.change.length > 0) counts['changed'] = changes.change.length;
  if (changes.close.length > 0) counts['closed'] = changes.close.length;
  if (unbound.size > 0) counts['unbound'] = unbound.size;
  return counts;
}

function stateOf({ protocol, address, port, frontend }: Listener) {
  return {
    protocol,
    address,
    port,
    kind: frontend.kind,
    servicePort: servicePortName(frontend.servicePort.key),
  };
}
