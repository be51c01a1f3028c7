// Snapshot → what the kernel should hold: virtual servers, addresses of the dummy link, entries of the sets. The planner keeps what each
// Service contributes, so that a change of one costs what that Service is worth. It touches nothing: render makes text of a plan, apply
// runs it.

import { isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { ResolvedService, Snapshot } from '../../model/snapshot.ts';
import { Claims, type FrontendKey } from '../claims.ts';
import type { RulesConfig } from '../config.ts';
import { carriedPorts } from '../intent.ts';
import { FAMILIES } from '../iptables/names.ts';
import { nodePortAddresses } from '../userspace/plan.ts';
import { apiServersOf } from './api-servers.ts';
import { contributionOf, placeKeys, type Contribution, type VirtualServer } from './contribution.ts';
import { familyOf, type ServerKey, type SetEntry } from './names.ts';

/** A virtual server as it was and as it is to be; `before` undefined when it is new, `after` when it goes. */
export interface ServerChange {
  readonly key: ServerKey;
  readonly before: VirtualServer | undefined;
  readonly after: VirtualServer | undefined;
}

export interface PlanChanges {
  readonly servers: readonly ServerChange[];
  readonly addresses: Difference<Ip>;
  readonly entries: Difference<SetEntry>;
}

export interface Difference<T> {
  readonly added: readonly T[];
  readonly removed: readonly T[];
}

export class Planner {
  readonly #config: RulesConfig;
  readonly #families: readonly IpFamily[];
  readonly #leftOut: ReadonlySet<ObjectKey>;
  readonly #claims = new Claims();
  readonly #resolved = new Map<ObjectKey, ResolvedService>();
  readonly #places = new Map<ObjectKey, ReadonlySet<FrontendKey>>();
  readonly #contributions = new Map<ObjectKey, Contribution>();
  readonly #servers = new Map<ServerKey, VirtualServer>();
  readonly #addresses = new Tally<Ip>();
  readonly #entries = new Tally<SetEntry>();
  readonly #serverCounts: Record<IpFamily, number> = { 4: 0, 6: 0 };
  #presentAddresses: ReadonlySet<Ip> | undefined;
  #snapshot: Snapshot | undefined;
  #local: ReadonlySet<Ip> = new Set();
  #apiServers: ReadonlySet<Ip> = new Set();
  #nodePortAddresses: readonly Ip[] = [];
  #node = '';

  /** `families`: those that this machine has. `leftOut`: Services that the kernel does not take. */
  constructor(
    config: RulesConfig,
    families: readonly IpFamily[] = FAMILIES,
    leftOut: ReadonlySet<ObjectKey> = new Set(),
  ) {
    this.#config = config;
    this.#families = families;
    this.#leftOut = leftOut;
  }

  get services(): number {
    return this.#contributions.size;
  }

  get servers(): ReadonlyMap<ServerKey, VirtualServer> {
    return this.#servers;
  }

  /** Virtual servers and their real servers together. */
  get serverCounts(): Readonly<Record<IpFamily, number>> {
    return this.#serverCounts;
  }

  /** The same set as long as nothing comes or goes. */
  get addresses(): ReadonlySet<Ip> {
    return (this.#presentAddresses ??= this.#addresses.present());
  }

  get entries(): ReadonlySet<SetEntry> {
    return this.#entries.present();
  }

  /** The Services whose contribution is such a one. */
  ownersOf(fits: (contribution: Contribution) => boolean): readonly ObjectKey[] {
    return [...this.#contributions].flatMap(([key, contribution]) => (fits(contribution) ? [key] : []));
  }

  /**
   * `local`: the addresses of the node on links other than the dummy one. `apiServers`: as the Snapshot says them, unless something better is
   * known. Returns what differs from before; everything the first time.
   */
  advance(snapshot: Snapshot, local: readonly Ip[], apiServers: readonly Ip[] = apiServersOf(snapshot)): PlanChanges {
    const dirty = this.#takeOver(snapshot, local, apiServers);
    const servers = new Map<ServerKey, ServerChange>();
    for (const key of dirty) this.#contribute(key, snapshot, servers);
    const addresses = this.#addresses.settle();
    if (addresses.added.length > 0 || addresses.removed.length > 0) this.#presentAddresses = undefined;
    return {
      servers: [...servers.values()].filter(({ before, after }) => !sameServer(before, after)),
      addresses,
      entries: this.#entries.settle(),
    };
  }

  /** The keys of the Services whose contribution has to be made again. */
  #takeOver(snapshot: Snapshot, local: readonly Ip[], apiServers: readonly Ip[]): ReadonlySet<ObjectKey> {
    const last = this.#snapshot;
    this.#snapshot = snapshot;
    const node = `${snapshot.node.ips.join()} ${local.join()} ${apiServers.join()}`;
    const moved = node !== this.#node;
    this.#node = node;
    if (moved) {
      this.#local = new Set(local);
      this.#apiServers = new Set(apiServers);
      this.#nodePortAddresses = nodePortAddresses(this.#config.nodePortAddresses, snapshot.node.ips, local).filter(
        (ip) => !isLoopback(ip),
      );
    }
    const dirty = new Set<ObjectKey>();
    const update = (key: ObjectKey, service: ResolvedService | undefined): void => {
      const now = this.#leftOut.has(key) || carriedPorts(service).length === 0 ? undefined : service;
      const places = placeKeys(now, { nodePortAddresses: this.#nodePortAddresses, families: this.#families });
      this.#claims.update(key, this.#places.get(key) ?? NO_PLACES, places, dirty);
      if (now || this.#resolved.has(key)) dirty.add(key);
      if (now) {
        this.#resolved.set(key, now);
        this.#places.set(key, places);
      } else {
        this.#resolved.delete(key);
        this.#places.delete(key);
      }
    };
    if (last === undefined || moved) {
      // Every NodePort is on the node's addresses, and source ranges ask whether the node is inside.
      for (const key of this.#resolved.keys()) if (!snapshot.services.has(key)) update(key, undefined);
      for (const [key, service] of snapshot.services.entries()) update(key, service);
    } else {
      for (const { key, after } of snapshot.services.differences(last.services)) update(key, after);
    }
    return dirty;
  }

  #contribute(key: ObjectKey, snapshot: Snapshot, servers: Map<ServerKey, ServerChange>): void {
    const old = this.#contributions.get(key);
    const service = this.#resolved.get(key);
    const now =
      service &&
      contributionOf(service, {
        families: this.#families,
        resets: this.#config.resetTcpToDeletedEndpoints,
        local: this.#local,
        apiServers: this.#apiServers,
        nodePortAddresses: this.#nodePortAddresses,
        nodeIps: snapshot.node.ips,
        holds: (place) => this.#claims.holds(key, place),
      });
    if (now) this.#contributions.set(key, now);
    else this.#contributions.delete(key);
    this.#addresses.replace(old?.addresses ?? [], now?.addresses ?? []);
    this.#entries.replace(old?.entries ?? [], now?.entries ?? []);
    const kept = new Set(now?.servers.map((server) => server.key));
    // A place that went from one Service to another is held by the other by now, or will be.
    for (const server of old?.servers ?? []) {
      if (!kept.has(server.key) && this.#servers.get(server.key) === server) this.#set(server.key, undefined, servers);
    }
    for (const server of now?.servers ?? []) this.#set(server.key, server, servers);
  }

  #set(key: ServerKey, after: VirtualServer | undefined, servers: Map<ServerKey, ServerChange>): void {
    const known = servers.get(key);
    const now = this.#servers.get(key);
    servers.set(key, { key, before: known ? known.before : now, after });
    this.#serverCounts[familyOf(key)] += sizeOf(after) - sizeOf(now);
    if (after) this.#servers.set(key, after);
    else this.#servers.delete(key);
  }
}

function sizeOf(server: VirtualServer | undefined): number {
  return server === undefined ? 0 : 1 + server.reals.length;
}

const NO_PLACES: ReadonlySet<FrontendKey> = new Set();

export function sameServer(a: VirtualServer | undefined, b: VirtualServer | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.persistence === b.persistence && sameList(a.reals, b.reals) && sameList(a.named ?? [], b.named ?? []);
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index]);
}

/** Counts who wants what: an entry that two Services want goes with the last of them. */
class Tally<T> {
  readonly #counts = new Map<T, number>();
  readonly #touched = new Map<T, number>();

  replace(old: Iterable<T>, now: Iterable<T>): void {
    for (const each of old) this.#add(each, -1);
    for (const each of now) this.#add(each, 1);
  }

  /** What came and went since the last call. */
  settle(): Difference<T> {
    const added: T[] = [];
    const removed: T[] = [];
    for (const [each, before] of this.#touched) {
      const now = this.#counts.get(each) ?? 0;
      if (now === 0) this.#counts.delete(each);
      if (before === 0 && now > 0) added.push(each);
      if (before > 0 && now === 0) removed.push(each);
    }
    this.#touched.clear();
    return { added, removed };
  }

  present(): ReadonlySet<T> {
    return new Set(this.#counts.keys());
  }

  #add(each: T, by: number): void {
    const count = this.#counts.get(each) ?? 0;
    if (!this.#touched.has(each)) this.#touched.set(each, count);
    this.#counts.set(each, count + by);
  }
}
