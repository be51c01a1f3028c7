// Changes → text for `nft -f -`. Pure. One text is one transaction.

import type { IpFamily } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { RulesConfig } from '../config.ts';
import {
  CONTAINERS,
  FAMILIES,
  OTHER_MAPS,
  TABLE,
  chainOfElement,
  chainOnDemand,
  chainsBehind,
  dispatchOf,
  fixedChains,
  marker,
  nftFamily,
  type ChainName,
  type ChainText,
} from './layout.ts';
import { Planner, type ChangeGroup, type ElementChange } from './plan.ts';

/** The table with its empty sets and maps and all fixed chains, as one block. */
export function renderTable(config: RulesConfig, family: IpFamily): string {
  const ip = nftFamily(family);
  const lines = [`table ${ip} ${TABLE} {`];
  for (const { name, kind, declaration } of CONTAINERS) lines.push(`  ${kind} ${name} { ${declaration(ip)}; }`);
  for (const map of OTHER_MAPS) lines.push(`  ${map}`);
  for (const chain of fixedChains(config, family)) lines.push(renderChain(chain));
  lines.push(`  chain ${marker(config, family).name} { }`, '}');
  return `${lines.join('\n')}\n`;
}

function renderChain({ name, hook, rules }: ChainText): string {
  const lines = [...(hook === undefined ? [] : [`${hook};`]), ...rules];
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), '  }'].join('\n');
}

/** Empties the fixed chains and fills them again, for a table whose sets and maps are right and whose rules are not. */
export function renderRules(
  config: RulesConfig,
  family: IpFamily,
  existing: { readonly markers: readonly ChainName[]; readonly onDemand: readonly ChainName[] },
): string {
  const table = `${nftFamily(family)} ${TABLE}`;
  const chains = [...fixedChains(config, family), ...existing.onDemand.map((name) => chainOnDemand(family, name))];
  const lines = chains.flatMap(({ name, hook }) => [
    `add chain ${table} ${name}${hook === undefined ? '' : ` { ${hook}; }`}`,
    `flush chain ${table} ${name}`,
  ]);
  for (const { name, rules } of chains) for (const rule of rules) lines.push(`add rule ${table} ${name} ${rule}`);
  for (const name of existing.onDemand) {
    const dispatch = dispatchOf(name);
    if (dispatch) lines.push(`add element ${table} ${dispatch.map} {`, `${dispatch.element} : goto ${name},`, '}');
  }
  for (const name of existing.markers) lines.push(`delete chain ${table} ${name}`);
  lines.push(`add chain ${table} ${marker(config, family).name}`);
  return `${lines.join('\n')}\n`;
}

/** The chains made on demand that the changes need in the family. */
export function chainsNeeded(groups: readonly ChangeGroup[], family: IpFamily): ReadonlySet<ChainName> {
  const names = new Set<ChainName>();
  for (const { changes } of groups) {
    for (const change of changes) {
      if (change.after === undefined || !change.id.startsWith(`${family}/`)) continue;
      const name = chainOfElement(partsOf(change).container.slice(2), change.after);
      if (name !== undefined) names.add(name);
    }
  }
  return withBehind(names);
}

/** With the chains that these go to. */
export function withBehind(names: Iterable<ChainName>): ReadonlySet<ChainName> {
  const all = [...names];
  return new Set([...all, ...all.flatMap(chainsBehind)]);
}

export function renderNewChains(family: IpFamily, names: Iterable<ChainName>): string {
  const table = `${nftFamily(family)} ${TABLE}`;
  // Those that others go to first.
  const sorted = [...names].sort((a, b) => chainsBehind(a).length - chainsBehind(b).length || (a < b ? -1 : 1));
  let text = '';
  for (const name of sorted) {
    text += `add chain ${table} ${name}\n`;
    for (const rule of chainOnDemand(family, name).rules) text += `add rule ${table} ${name} ${rule}\n`;
    const dispatch = dispatchOf(name);
    if (dispatch) text += `add element ${table} ${dispatch.map} {\n${dispatch.element} : goto ${name},\n}\n`;
  }
  return text;
}

/** Two texts: nothing leads to the chains any more, and they are gone. One transaction takes both, but for older kernels. */
export function renderDeletedChains(
  family: IpFamily,
  names: readonly ChainName[],
): { readonly detach: string; readonly remove: string } {
  const table = `${nftFamily(family)} ${TABLE}`;
  let detach = '';
  let remove = '';
  for (const name of names) {
    const dispatch = dispatchOf(name);
    if (dispatch) detach += `delete element ${table} ${dispatch.map} {\n${dispatch.element},\n}\n`;
    detach += `flush chain ${table} ${name}\n`;
    remove += `delete chain ${table} ${name}\n`;
  }
  return { detach, remove };
}

/** Deletes, then adds; a changed element is both. With `about`, each Service's elements stand under a comment. */
export function renderChanges(groups: readonly ChangeGroup[], comments = false): string {
  const deletes = new Map<string, string[]>();
  const adds = new Map<string, string[]>();
  for (const { about, changes } of groups) {
    const named = new Set<string[]>();
    for (const change of changes) {
      const { container, key } = partsOf(change);
      if (change.before !== undefined) linesOf(deletes, container).push(key);
      if (change.after === undefined) continue;
      const lines = linesOf(adds, container);
      if (comments && !named.has(lines)) lines.push(`# ${about}`);
      named.add(lines);
      lines.push(change.after === '' ? key : `${key} : ${change.after}`);
    }
  }
  return renderElements('delete', deletes) + renderElements('add', adds);
}

function linesOf(map: Map<string, string[]>, container: string): string[] {
  let lines = map.get(container);
  if (!lines) map.set(container, (lines = []));
  return lines;
}

function renderElements(verb: 'add' | 'delete', byContainer: ReadonlyMap<string, readonly string[]>): string {
  let text = '';
  const order = [...byContainer.keys()].sort((a, b) => placeOf(a) - placeOf(b) || (a < b ? -1 : 1));
  for (const container of order) {
    const [family, name] = container.split('/');
    const lines = byContainer.get(container) ?? [];
    const body = lines.map((line) => (line.startsWith('#') ? line : `${line},`)).join('\n');
    text += `${verb} element ${family === '4' ? 'ip' : 'ip6'} ${TABLE} ${name} {\n${body}\n}\n`;
  }
  return text;
}

const PLACES = new Map(CONTAINERS.map(({ name }, index) => [name, index]));

function placeOf(container: string): number {
  return PLACES.get(container.slice(2)) ?? 0;
}

function partsOf({ id }: ElementChange): { container: string; key: string } {
  const slash = id.indexOf('/', 2);
  return { container: id.slice(0, slash), key: id.slice(slash + 1) };
}

/**
 * Everything for the Snapshot as text that `nft -f -` loads into an empty kernel, for `fairlead render`: both tables,
 * then the elements with their Services named. The same Snapshot gives the same text.
 */
export function renderNftables(snapshot: Snapshot, config: RulesConfig): string {
  const planner = new Planner(config);
  planner.advance(snapshot);
  const groups = [...planner.changesFrom(new Map())];
  const chains = FAMILIES.map((family) => renderNewChains(family, chainsNeeded(groups, family))).join('');
  return FAMILIES.map((family) => renderTable(config, family)).join('') + chains + renderChanges(groups, true);
}

/** The elements of the Snapshot's Services alone, without table, chains and the addresses of the node: what `fairlead explain` shows of one. */
export function renderServiceElements(snapshot: Snapshot, config: RulesConfig): string {
  const planner = new Planner(config);
  planner.advance(snapshot);
  const groups = [...planner.changesFrom(new Map())].filter(({ about }) => snapshot.services.has(about));
  return renderChanges(groups);
}
