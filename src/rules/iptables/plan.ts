// Snapshot → the chains that the kernel should hold. The planner keeps what each Service contributes, so that a change of
// one Service costs what that Service is worth and, when an address comes or goes, the chains that all share.
// It touches nothing: render makes text of a plan, apply runs it.

import type { IpFamily } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { ResolvedService, Snapshot } from '../../model/snapshot.ts';
import { Claims } from '../claims.ts';
import type { RulesConfig } from '../config.ts';
import { carriedPorts } from '../intent.ts';
import { contributionOf, frontendKeys } from './contribution.ts';
import { SHARED_CHAINS, answersOnLoopback, fixedChains, nodePortLines, type MachineFacts } from './layout.ts';
import { packContribution, unpackContribution, type PackedContribution } from './packed-contribution.ts';
import { FAMILIES, chainId, partsOfChain, type ChainId } from './names.ts';

/** A chain with all of its lines as they are to be; undefined when it goes. */
export interface ChainChange {
  readonly id: ChainId;
  /** As it was; undefined when it is new. */
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** With more endpoints than this in a family, rules of endpoints carry no comments (as kube-proxy's large-cluster mode). */
export const LARGE_CLUSTER_ENDPOINTS = 1000;

export class Planner {
  readonly #config: RulesConfig;
  readonly #facts: MachineFacts;
  readonly #leftOut: ReadonlySet<ObjectKey>;
  readonly #claims = new Claims();
  readonly #resolved = new Map<ObjectKey, ResolvedService>();
  readonly #contributions = new Map<ObjectKey, PackedContribution>();
  readonly #shared = new Map<ChainId, string>();
  readonly #endpoints: Record<IpFamily, number> = { 4: 0, 6: 0 };
  #endpointComments = true;
  #names: ObjectKey[] | undefined;
  #snapshot: Snapshot | undefined;
  #nodeIps = '';

  /** `leftOut`: Services that the kernel does not take. */
  constructor(config: RulesConfig, facts: MachineFacts, leftOut: ReadonlySet<ObjectKey> = new Set()) {
    this.#config = config;
    this.#facts = facts;
    this.#leftOut = leftOut;
  }

  get services(): number {
    return this.#contributions.size;
  }

  /** Whose each chain is that is a Service's alone. */
  owners(): ReadonlyMap<ChainId, ObjectKey> {
    const owners = new Map<ChainId, ObjectKey>();
    for (const [key, packed] of this.#contributions) {
      for (const id of unpackContribution(packed).chains.keys()) owners.set(id, key);
    }
    return owners;
  }

  /** Takes the Snapshot and returns the chains that differ from those before; all of them the first time. */
  advance(snapshot: Snapshot): readonly ChainChange[] {
    const first = this.#snapshot === undefined;
    const dirty = this.#takeOver(snapshot);
    const changes = new Map<ChainId, ChainChange>();
    const shared = new Set<ChainId>();
    const nodeIps = String(snapshot.node.ips);
    if (first) {
      for (const family of FAMILIES) {
        for (const [id, after] of fixedChains(this.#config, family, this.#facts))
          changes.set(id, { id, before: undefined, after });
        for (const [table, name] of SHARED_CHAINS) shared.add(chainId(family, table, name));
      }
    } else if (nodeIps !== this.#nodeIps) {
      for (const family of FAMILIES) shared.add(chainId(family, 'nat', 'KUBE-SERVICES'));
    }
    this.#nodeIps = nodeIps;
    for (const key of dirty) this.#contribute(key, snapshot, changes, shared);
    for (const id of shared) {
      const before = this.#shared.get(id);
      const after = this.#sharedText(id, snapshot);
      if (before === after) continue;
      this.#shared.set(id, after);
      changes.set(id, { id, before, after });
    }
    return [...changes.values()];
  }

  /** Whose line that is; undefined when it is nobody's. `line` counts the chain's lines from 0. Slow: for errors only. */
  ownerOf(id: ChainId, line: number): ObjectKey | undefined {
    let left = line;
    for (const key of this.#sortedNames()) {
      const contribution = this.#contributions.get(key);
      if (contribution && unpackContribution(contribution).chains.has(id)) return key;
      left -= linesIn(contribution?.lines.get(id));
      if (left < 0) return key;
    }
    return undefined;
  }

  /** The keys of the Services whose contribution has to be made again. */
  #takeOver(snapshot: Snapshot): ReadonlySet<ObjectKey> {
    const last = this.#snapshot;
    this.#snapshot = snapshot;
    const dirty = new Set<ObjectKey>();
    const update = (key: ObjectKey, service: ResolvedService | undefined): void => {
      const old = this.#resolved.get(key);
      const now = this.#leftOut.has(key) || carriedPorts(service).length === 0 ? undefined : service;
      this.#claims.update(key, frontendKeys(old), frontendKeys(now), dirty);
      this.#count(old, -1);
      this.#count(now, 1);
      if (now) this.#resolved.set(key, now);
      else this.#resolved.delete(key);
      if (old || now) dirty.add(key);
    };
    if (last === undefined) {
      for (const [key, service] of snapshot.services.entries()) update(key, service);
    } else {
      for (const { key, after } of snapshot.services.differences(last.services)) update(key, after);
      // Source ranges ask whether the node is inside.
      if (String(snapshot.node.ips) !== this.#nodeIps) for (const key of this.#resolved.keys()) dirty.add(key);
    }
    // What was written with comments keeps them: a cluster that grows past the limit is not written anew for it.
    if (FAMILIES.some((family) => this.#endpoints[family] > LARGE_CLUSTER_ENDPOINTS)) this.#endpointComments = false;
    return dirty;
  }

  #count(service: ResolvedService | undefined, by: 1 | -1): void {
    for (const { family, endpoints } of carriedPorts(service)) this.#endpoints[family] += by * endpoints.length;
  }

  #contribute(key: ObjectKey, snapshot: Snapshot, changes: Map<ChainId, ChainChange>, shared: Set<ChainId>): void {
    const packed = this.#contributions.get(key);
    const old = packed && unpackContribution(packed);
    const service = this.#resolved.get(key);
    const now =
      service &&
      contributionOf(service, {
        config: this.#config,
        nodeIps: snapshot.node.ips,
        holds: (frontend) => this.#claims.holds(key, frontend),
        endpointComments: this.#endpointComments,
        countsLoopback: this.#facts.countsPackets === true && answersOnLoopback(this.#config),
      });
    if ((old === undefined) !== (now === undefined)) this.#names = undefined;
    if (now) this.#contributions.set(key, packContribution(now));
    else this.#contributions.delete(key);
    for (const [id, before] of old?.chains ?? []) {
      if (!now?.chains.has(id)) changes.set(id, { id, before, after: undefined });
    }
    for (const [id, after] of now?.chains ?? []) {
      const before = old?.chains.get(id);
      if (before !== after) changes.set(id, { id, before, after });
    }
    for (const id of old?.lines.keys() ?? []) if (!now?.lines.has(id)) shared.add(id);
    for (const [id, lines] of now?.lines ?? []) if (old?.lines.get(id) !== lines) shared.add(id);
  }

  #sharedText(id: ChainId, snapshot: Snapshot): string {
    let text = '';
    for (const key of this.#sortedNames()) text += this.#contributions.get(key)?.lines.get(id) ?? '';
    const { family, table, name } = partsOfChain(id);
    if (table === 'nat' && name === 'KUBE-SERVICES') text += nodePortLines(this.#config, family, snapshot.node.ips);
    return text;
  }

  #sortedNames(): readonly ObjectKey[] {
    return (this.#names ??= [...this.#contributions.keys()].sort());
  }
}

/** How many lines the text has; each ends with a line feed. */
export function linesIn(text: string | undefined): number {
  if (text === undefined) return 0;
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++;
  return count;
}
