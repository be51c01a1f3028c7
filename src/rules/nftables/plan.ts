// Snapshot → the elements that our tables should hold. The planner keeps what each Service contributes, so that a change
// of one Service costs what that Service is worth, and can give the whole against what a table already holds.
// It touches nothing: render makes text of a plan, apply runs it.

import { formerOrder } from './former-order.ts';
import { packContribution, unpackContribution, type PackedContribution } from './packed-contribution.ts';
import { isLoopback, type Ip } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { Cidr } from '../../lib/cidr.ts';
import type { ResolvedService, Snapshot } from '../../model/snapshot.ts';
import type { RulesConfig } from '../config.ts';
import {
  contributionOf,
  frontendsOfService,
  nodePortIpElements,
  serviceCidrElements,
  type Contribution,
  type ElementId,
  type ElementValue,
  type FormerOrder,
  type FrontendKey,
} from './contribution.ts';

/** One element that is to change. `before` undefined: it is new; `after` undefined: it goes. */
export interface ElementChange {
  readonly id: ElementId;
  readonly before: ElementValue | undefined;
  readonly after: ElementValue | undefined;
}

/** Changes that belong together: all of one Service, so that none of its addresses is in force half. */
export interface ChangeGroup {
  /** `namespace/name`, or what it is about. */
  readonly about: string;
  readonly changes: readonly ElementChange[];
}

const NO_ORDER: FormerOrder = () => undefined;

export class Planner {
  readonly #config: RulesConfig;
  /** Of the table, while the first Snapshot is planned. */
  #former: FormerOrder;
  #snapshot: Snapshot | undefined;
  #nodeIps: readonly Ip[] = [];
  #serviceCidrs: readonly Cidr[] = [];
  #leftOut: ReadonlySet<ObjectKey> = new Set();
  #leftOutBefore: ReadonlySet<ObjectKey> = new Set();
  readonly #contributions = new Map<ObjectKey, PackedContribution>();
  readonly #resolved = new Map<ObjectKey, ResolvedService>();
  /** Who claims a frontend; the first by name holds it. Nearly always one. */
  readonly #claims = new Map<FrontendKey, ObjectKey | readonly ObjectKey[]>();
  readonly #counts = new Map<ElementId, number>();

  /** `former` gives the order of endpoints that a table already has, so that a start writes only what differs. */
  constructor(config: RulesConfig, former: FormerOrder = NO_ORDER) {
    this.#config = config;
    this.#former = former;
  }

  get services(): number {
    return this.#contributions.size;
  }

  /** Whether the Service contributes anything. */
  has(service: ObjectKey): boolean {
    return this.#contributions.has(service);
  }

  /** From the next `advance` on these Services are treated as if they were not there: another that claims their
   * addresses has them meanwhile. What differs by that is in its answer. */
  leaveOut(services: ReadonlySet<ObjectKey>): void {
    this.#leftOut = services;
  }

  /** Takes the Snapshot and returns what differs from the one before: for a change of one Service, O(that Service). */
  advance(snapshot: Snapshot): readonly ElementChange[] {
    const dirty = this.#takeOver(snapshot);
    const before = new Map<ElementId, ElementValue>();
    const after = new Map<ElementId, ElementValue>();
    const oldOfNobody = [...this.#nodeIpElements(), ...serviceCidrElements(this.#serviceCidrs)];
    this.#nodeIps = nodeIpsOf(snapshot);
    this.#serviceCidrs = snapshot.serviceCIDRs;
    const touched = new Map<ElementId, boolean>();
    const recount = (ids: Iterable<ElementId>, by: 1 | -1): void => {
      for (const id of ids) {
        const count = this.#counts.get(id) ?? 0;
        if (!touched.has(id)) touched.set(id, count > 0);
        if (count + by === 0) this.#counts.delete(id);
        else this.#counts.set(id, count + by);
      }
    };
    recount(oldOfNobody, -1);
    recount(this.#nodeIpElements(), 1);
    recount(serviceCidrElements(this.#serviceCidrs), 1);
    for (const key of dirty) {
      const packed = this.#contributions.get(key);
      const old = packed === undefined ? undefined : unpackContribution(packed);
      for (const [id, value] of old?.elements ?? []) before.set(id, value);
      recount(old?.shared ?? [], -1);
      const now = this.#contribute(key, old);
      for (const [id, value] of now?.elements ?? []) after.set(id, value);
      recount(now?.shared ?? [], 1);
    }
    this.#former = NO_ORDER;
    const changes = differencesOf(before, after);
    for (const [id, was] of touched) {
      const is = this.#counts.has(id);
      if (was !== is) changes.push({ id, before: was ? '' : undefined, after: is ? '' : undefined });
    }
    return changes;
  }

  /** Every element that should be there, in a fixed order, grouped by Service. Shared ones stand with the first that needs them. */
  *groups(): Generator<{ readonly about: string; readonly elements: ReadonlyMap<ElementId, ElementValue> }> {
    const seen = new Set<ElementId>();
    const node = new Map(this.#nodeIpElements().map((id) => [id, '']));
    if (node.size > 0) yield { about: 'addresses of this node', elements: node };
    for (const id of node.keys()) seen.add(id);
    for (const key of [...this.#contributions.keys()].sort()) {
      const packed = this.#contributions.get(key);
      if (!packed) continue;
      const { elements, shared } = unpackContribution(packed);
      const all = new Map<ElementId, ElementValue>();
      for (const id of shared) {
        if (seen.has(id)) continue;
        seen.add(id);
        all.set(id, '');
      }
      for (const [id, value] of elements) all.set(id, value);
      if (all.size > 0) yield { about: key, elements: all };
    }
    // Last, so that a first load does not cut off what is still to come.
    const ranges = new Map(serviceCidrElements(this.#serviceCidrs).map((id) => [id, '']));
    if (ranges.size > 0) yield { about: 'ranges of the Services', elements: ranges };
  }

  /** What brings a table that holds `actual` to the plan, a Service at a time; what is in nobody's plan goes last. */
  *changesFrom(actual: ReadonlyMap<ElementId, ElementValue>): Generator<ChangeGroup> {
    let kept = 0;
    for (const { about, elements } of this.groups()) {
      const changes: ElementChange[] = [];
      for (const [id, after] of elements) {
        const before = actual.get(id);
        if (before !== undefined) kept++;
        if (before !== after) changes.push({ id, before, after });
      }
      if (changes.length > 0) yield { about, changes };
    }
    if (kept === actual.size) return;
    const rest = new Map(actual);
    for (const { elements } of this.groups()) for (const id of elements.keys()) rest.delete(id);
    const changes = [...rest].map(([id, before]) => ({ id, before, after: undefined }));
    yield { about: 'of no Service any more', changes };
  }

  /** The keys of the Services whose contribution has to be made again. */
  #takeOver(snapshot: Snapshot): ReadonlySet<ObjectKey> {
    const last = this.#snapshot;
    this.#snapshot = snapshot;
    const dirty = new Set<ObjectKey>();
    const update = (key: ObjectKey, service: ResolvedService | undefined): void => {
      const frontends = frontendsOfService(service);
      for (const frontend of frontendsOfService(this.#resolved.get(key)).keys()) {
        if (!frontends.has(frontend)) this.#release(frontend, key, dirty);
      }
      for (const frontend of frontends.keys()) this.#claim(frontend, key, dirty);
      if (service && frontends.size > 0) this.#resolved.set(key, service);
      else this.#resolved.delete(key);
      dirty.add(key);
    };
    if (last === undefined) {
      for (const [key, service] of snapshot.services.entries()) update(key, service);
    } else {
      for (const { key, after } of snapshot.services.differences(last.services)) update(key, after);
    }
    for (const key of new Set([...this.#leftOutBefore, ...this.#leftOut])) {
      if (this.#leftOutBefore.has(key) !== this.#leftOut.has(key)) this.#reconsider(key, dirty);
    }
    this.#leftOutBefore = this.#leftOut;
    // Source ranges ask whether the node is inside.
    const nodeMoved = String(nodeIpsOf(snapshot)) !== String(this.#nodeIps);
    if (nodeMoved && last !== undefined) for (const key of this.#resolved.keys()) dirty.add(key);
    return dirty;
  }

  /** The Service, and all that claim what it claims. */
  #reconsider(key: ObjectKey, dirty: Set<ObjectKey>): void {
    dirty.add(key);
    for (const frontend of frontendsOfService(this.#resolved.get(key)).keys()) {
      const claims = this.#claims.get(frontend);
      if (typeof claims === 'object') for (const other of claims) dirty.add(other);
    }
  }

  #claim(frontend: FrontendKey, key: ObjectKey, dirty: Set<ObjectKey>): void {
    const claims = this.#claims.get(frontend);
    if (claims === undefined) {
      this.#claims.set(frontend, key);
      return;
    }
    const all = typeof claims === 'string' ? [claims] : claims;
    if (all.includes(key)) return;
    this.#claims.set(frontend, [...all, key].sort());
    for (const other of all) dirty.add(other);
  }

  #release(frontend: FrontendKey, key: ObjectKey, dirty: Set<ObjectKey>): void {
    const claims = this.#claims.get(frontend);
    const rest = typeof claims === 'string' ? [] : (claims ?? []).filter((other) => other !== key);
    if (rest.length === 0) this.#claims.delete(frontend);
    else this.#claims.set(frontend, rest.length === 1 && rest[0] !== undefined ? rest[0] : rest);
    for (const other of rest) dirty.add(other);
  }

  #contribute(key: ObjectKey, old: Contribution | undefined): Contribution | undefined {
    const service = this.#leftOut.has(key) ? undefined : this.#resolved.get(key);
    if (!service) {
      this.#contributions.delete(key);
      return undefined;
    }
    const holds = (frontend: FrontendKey): boolean => {
      const claims = this.#claims.get(frontend);
      return typeof claims === 'string' || claims?.find((other) => !this.#leftOut.has(other)) === key;
    };
    const former = old ? formerOrder(old.elements) : this.#former;
    const contribution = contributionOf(service, { nodeIps: this.#nodeIps, holds, former });
    this.#contributions.set(key, packContribution(contribution));
    return contribution;
  }

  #nodeIpElements(): readonly ElementId[] {
    return this.#config.nodePortAddresses.kind === 'primary' ? nodePortIpElements(this.#nodeIps) : [];
  }
}

function nodeIpsOf(snapshot: Snapshot): readonly Ip[] {
  return snapshot.node.ips.filter((ip) => !isLoopback(ip));
}

/** What is left of two lists of changes, one made upon the other. */
export function composed(first: readonly ElementChange[], second: readonly ElementChange[]): readonly ElementChange[] {
  const byId = new Map(first.map((change) => [change.id, change]));
  for (const { id, before, after } of second) {
    const earlier = byId.get(id);
    byId.set(id, { id, before: earlier ? earlier.before : before, after });
  }
  return [...byId.values()].filter(({ before, after }) => before !== after);
}

function differencesOf(
  before: ReadonlyMap<ElementId, ElementValue>,
  after: ReadonlyMap<ElementId, ElementValue>,
): ElementChange[] {
  const changes: ElementChange[] = [];
  for (const [id, old] of before) {
    const now = after.get(id);
    if (now !== old) changes.push({ id, before: old, after: now });
  }
  for (const [id, now] of after) if (!before.has(id)) changes.push({ id, before: undefined, after: now });
  return changes;
}
