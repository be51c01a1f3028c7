// What the kernel holds against what it should hold → what has to be written. Pure.

import type { Ip } from '../../lib/ip.ts';
import type { IpvsConfig, RulesConfig } from '../config.ts';
import type { Saved } from './kernel.ts';
import {
  KNOWN_SETS,
  partsOfEntry,
  partsOfServer,
  type KnownSet,
  type RealKey,
  type ServerKey,
  type SetEntry,
} from './names.ts';
import { isExcluded, isOwnServer } from './ownership.ts';
import type { Difference, Planner } from './plan.ts';
import { capacityFor, createSet, entryLines, type ServerStep } from './render.ts';
import type { SavedServer, SavedSet } from './parse.ts';
import type { VirtualServer } from './contribution.ts';

export interface LoadDifference {
  readonly steps: readonly LoadStep[];
  readonly addresses: Difference<Ip>;
  /** For `ipset restore`, before all else. */
  readonly setsAdded: string;
  /** Entries that go, at the end. */
  readonly removedEntries: readonly SetEntry[];
  readonly addedEntries: number;
  /** How many entries each set can hold. */
  readonly capacities: ReadonlyMap<string, number>;
  /** Virtual and real servers of others. */
  readonly foreign: { readonly servers: number; readonly reals: number };
}

export interface LoadStep extends ServerStep {
  /** Real servers that are there with another weight than they should have. */
  readonly draining: ReadonlySet<RealKey>;
  /** Of these, those that are not wanted and have weight 0: they go on draining. */
  readonly left: readonly RealKey[];
}

export function loadDifference(planner: Planner, saved: Saved, config: RulesConfig): LoadDifference {
  const { excludeCIDRs } = config.ipvs;
  const steps: LoadStep[] = [];
  const foreign = { servers: 0, reals: 0 };
  for (const [key, server] of planner.servers) steps.push(stepFor(key, server, saved.servers.get(key)));
  for (const [key, server] of saved.servers) {
    if (planner.servers.has(key)) continue;
    if (isOwnServer(key, saved, excludeCIDRs)) steps.push({ ...stepFor(key, undefined, server) });
    else {
      foreign.servers++;
      foreign.reals += server.reals.size;
    }
  }
  const wanted = planner.addresses;
  return {
    steps,
    foreign,
    addresses: {
      added: [...wanted].filter((ip) => !saved.addresses.ours.has(ip)),
      removed: [...saved.addresses.ours].filter(
        (ip) => !wanted.has(ip) && !isExcluded(ip, excludeCIDRs) && !ip.startsWith('fe80:'),
      ),
    },
    ...setDifference(planner.entries, saved.sets),
  };
}

const AS_OURS = '-m -w 1';

/** From what is held of a virtual server to what it is to be. */
export function stepFor(key: ServerKey, after: VirtualServer | undefined, held: SavedServer | undefined): LoadStep {
  if (!held) return { key, before: undefined, after, draining: new Set(), left: [] };
  const wanted = new Set(after?.reals);
  const reals: RealKey[] = [];
  const draining = new Set<RealKey>();
  const left: RealKey[] = [];
  const canDrain = partsOfServer(key).protocol === 'TCP';
  for (const [real, options] of held.reals) {
    if (options !== AS_OURS) draining.add(real);
    if (wanted.has(real)) {
      if (options === AS_OURS) reals.push(real);
    } else if (canDrain && options.endsWith('-w 0')) {
      left.push(real);
    } else {
      reals.push(real);
    }
  }
  return { key, before: { options: held.options, reals }, after, draining, left };
}

/** A set is made anew and put in the place of the other, where it is of another kind or too small. */
const EXCHANGE = 'fairlead-exchange';

function setDifference(
  wanted: ReadonlySet<SetEntry>,
  saved: ReadonlyMap<string, SavedSet>,
): Pick<LoadDifference, 'setsAdded' | 'removedEntries' | 'addedEntries' | 'capacities'> {
  const bySet = new Map<string, SetEntry[]>();
  for (const entry of wanted) {
    const { set } = partsOfEntry(entry);
    const list = bySet.get(set);
    if (list) list.push(entry);
    else bySet.set(set, [entry]);
  }
  let setsAdded = '';
  let addedEntries = 0;
  const removedEntries: SetEntry[] = [];
  const capacities = new Map<string, number>();
  for (const set of KNOWN_SETS.values()) {
    const entries = bySet.get(set.name) ?? [];
    const held = saved.get(set.name);
    const capacity = capacityFor(entries.length);
    capacities.set(set.name, held?.capacity ?? capacity);
    if (held && fits(held, set, entries.length)) {
      const missing = entries.filter((entry) => !held.entries.has(entry));
      addedEntries += missing.length;
      setsAdded += entryLines('add', missing);
      for (const entry of held.entries) if (!wanted.has(entry)) removedEntries.push(entry);
      continue;
    }
    addedEntries += entries.length;
    capacities.set(set.name, capacity);
    const name = held ? EXCHANGE : set.name;
    setsAdded += createSet({ ...set, name }, capacity);
    setsAdded += entries.map((entry) => `add ${name} ${partsOfEntry(entry).entry}\n`).join('');
    if (held) setsAdded += `swap ${EXCHANGE} ${set.name}\ndestroy ${EXCHANGE}\n`;
  }
  return { setsAdded, removedEntries, addedEntries, capacities };
}

function fits({ type, family, capacity }: SavedSet, set: KnownSet, entries: number): boolean {
  if (type !== set.type) return false;
  if (type === 'bitmap:port') return true;
  return family === (set.family === 4 ? 'inet' : 'inet6') && (capacity ?? 0) >= entries;
}

/** `ipvsadm --set` takes whole seconds; 0 leaves the kernel's value. Undefined when nothing is to be set. */
export function timeoutSeconds(config: IpvsConfig): readonly number[] | undefined {
  const all = [config.tcpTimeoutMs, config.tcpFinTimeoutMs, config.udpTimeoutMs];
  return all.some((ms) => ms > 0) ? all.map((ms) => Math.ceil(ms / 1000)) : undefined;
}
