// `nft -j list table` → what the table holds, in the plan's own words. Read once at start, and again after a transaction
// that failed; never on the way of a sync.

import type { IpFamily } from '../../lib/ip.ts';
import { parseIp } from '../../lib/ip.ts';
import type { ElementId, ElementValue } from './contribution.ts';
import { CONTAINERS, type ChainName } from './layout.ts';

export interface TableState {
  /** How many rules each chain has. */
  readonly chains: ReadonlyMap<ChainName, number>;
  readonly containers: ReadonlySet<string>;
}

const OURS: ReadonlySet<string> = new Set(CONTAINERS.map(({ name }) => name));
const PROTOCOL_NAMES: Readonly<Record<string, string>> = { '6': 'tcp', '17': 'udp', '132': 'sctp' };

/**
 * Reads one table and puts its elements into `elements`. Throws a SyntaxError when the text is no JSON, and a TypeError
 * when it is not what nft writes.
 */
export function parseTable(json: string, family: IpFamily, elements: Map<ElementId, ElementValue>): TableState {
  const chains = new Map<ChainName, number>();
  const containers = new Set<string>();
  for (const entry of listOf(record(JSON.parse(json))['nftables'])) {
    const object = record(entry);
    if (object['chain']) chains.set(text(record(object['chain'])['name']), 0);
    if (object['rule']) {
      const chain = text(record(object['rule'])['chain']);
      chains.set(chain, (chains.get(chain) ?? 0) + 1);
    }
    const container = object['map'] ?? object['set'];
    if (container) readContainer(record(container), family, containers, elements);
  }
  return { chains, containers };
}

function readContainer(
  container: Readonly<Record<string, unknown>>,
  family: IpFamily,
  containers: Set<string>,
  elements: Map<ElementId, ElementValue>,
): void {
  const name = text(container['name']);
  containers.add(name);
  if (!OURS.has(name)) return;
  const isMap = container['map'] !== undefined;
  const { type } = container;
  const priorityKey = Array.isArray(type) && type.at(-1) === 'classid';
  const priorityValue = container['map'] === 'classid';
  for (const element of listOf(container['elem'] ?? [])) {
    const [key, value] = isMap ? listOf(element) : [element, ''];
    const id = `${family}/${name}/${keyText(key, priorityKey)}`;
    elements.set(id, priorityValue ? String(priorityNumber(text(value))) : valueText(value));
  }
}

function keyText(key: unknown, priorityLast: boolean): string {
  if (typeof key === 'string') return address(key);
  if (record(key)['prefix']) return partText(key);
  const parts = listOf(record(key)['concat']).map(partText);
  const last = parts.at(-1);
  if (priorityLast && last !== undefined) parts[parts.length - 1] = String(priorityNumber(last));
  return parts.map((part, index) => (index < parts.length - 1 ? (PROTOCOL_NAMES[part] ?? part) : part)).join(' . ');
}

function partText(part: unknown): string {
  if (typeof part === 'number') return String(part);
  if (typeof part === 'string') return address(part);
  const { prefix } = record(part);
  if (prefix === undefined) throw new TypeError(`an element has the part ${JSON.stringify(part)}`);
  return `${address(text(record(prefix)['addr']))}/${String(record(prefix)['len'])}`;
}

function valueText(value: unknown): ElementValue {
  if (value === '') return '';
  const object = record(value);
  if (object['concat']) return listOf(object['concat']).map(partText).join(' . ');
  if (object['goto']) return `goto ${text(record(object['goto'])['target'])}`;
  if ('drop' in object) return 'drop';
  throw new TypeError(`an element has the value ${JSON.stringify(value)}`);
}

/** A packet priority as nft lists it, `major:minor` in hexadecimal, either half left out when it is zero. */
function priorityNumber(value: string): number {
  if (value === 'none') return 0;
  if (value === 'root') return 0xffff_ffff;
  const [major = '', minor = ''] = value.split(':');
  return Number.parseInt(major || '0', 16) * 0x1_0000 + Number.parseInt(minor || '0', 16);
}

/** nft writes an IPv4-mapped address with dots; ours have none. */
function address(value: string): string {
  return value.includes(':') && value.includes('.') ? (parseIp(value) ?? value) : value;
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw new TypeError(`nft wrote ${JSON.stringify(value)}`);
  return value as Readonly<Record<string, unknown>>;
}

function listOf(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError(`nft wrote ${JSON.stringify(value)} where a list was expected`);
  return value;
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError(`nft wrote ${JSON.stringify(value)} where text was expected`);
  return value;
}
