// The kernel's own messages about our tables → elements in the plan's own words. `nft` takes 2 KB for each element that it lists (780 MiB
// beside 250,000 endpoints) and seconds of CPU; these are some 80 bytes each. Layouts of linux/netlink.h, linux/netfilter/nf_tables.h. Pure.

import { ipFromBytes, type IpFamily } from '../../lib/ip.ts';
import type { ElementId, ElementValue } from './contribution.ts';
import { CONTAINERS, TABLE, nftFamily, type ChainName } from './layout.ts';

/** Messages are in the machine's own byte order, but for what says otherwise. */
const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

const HEADER = 16;
/** The header and `struct nfgenmsg`. */
const BODY = HEADER + 4;
const SUBSYSTEM = 10 << 8;
const NEW_TABLE = SUBSYSTEM | 0;
const NEW_CHAIN = SUBSYSTEM | 3;
const NEW_RULE = SUBSYSTEM | 6;
const NEW_SET = SUBSYSTEM | 9;
const NEW_ELEMENTS = SUBSYSTEM | 12;

/** Attributes, with the number that each has where it stands. */
const TABLE_NAME = 1;
const CHAIN_NAME = 3;
const CHAIN_OF_RULE = 2;
const SET_NAME = 2;
const SET_OF_ELEMENTS = 2;
const ELEMENTS = 3;
const ELEMENT_KEY = 1;
const ELEMENT_DATA = 2;
const VALUE = 1;
const VERDICT = 2;
const VERDICT_CODE = 1;
const VERDICT_CHAIN = 2;
/** Without the bits that say "nested" and "network order". */
const ATTRIBUTE_MASK = 0x3fff;

const GOTO = -4;
const DROP = 0;

type FieldType = 'address' | 'inet_proto' | 'inet_service' | 'classid';

interface ContainerType {
  readonly prefix: string;
  readonly key: readonly FieldType[];
  /** Undefined for a set. */
  readonly value: readonly FieldType[] | 'verdict' | undefined;
}

/** What the messages have told so far. */
export interface TableDraft {
  readonly family: IpFamily;
  found: boolean;
  /** How many rules each chain has. */
  readonly chains: Map<ChainName, number>;
  readonly containers: Set<string>;
  readonly elements: Map<ElementId, ElementValue>;
}

export function emptyDraft(family: IpFamily): TableDraft {
  return { family, found: false, chains: new Map(), containers: new Set(), elements: new Map() };
}

/** The sets and maps whose elements can be read this way: an interval is two elements to the kernel. */
export const READABLE: readonly string[] = CONTAINERS.filter(
  ({ declaration }) => !declaration('ip').includes('interval'),
).map(({ name }) => name);

const TYPES: Readonly<Record<IpFamily, ReadonlyMap<string, ContainerType>>> = { 4: typesOf(4), 6: typesOf(6) };

function typesOf(family: IpFamily): ReadonlyMap<string, ContainerType> {
  return new Map(
    CONTAINERS.map(({ name, declaration }) => {
      const [key = '', value] = declaration(nftFamily(family))
        .replace(/^type /, '')
        .split(' : ');
      const type: ContainerType = {
        prefix: `${family}/${name}/`,
        key: fieldsOf(key),
        value: value === 'verdict' ? 'verdict' : value === undefined ? undefined : fieldsOf(value),
      };
      return [name, type] as const;
    }),
  );
}

function fieldsOf(text: string): readonly FieldType[] {
  return text
    .replace(/;.*/, '')
    .split(' . ')
    .map((name): FieldType => {
      if (name === 'ipv4_addr' || name === 'ipv6_addr') return 'address';
      if (name === 'inet_proto' || name === 'inet_service' || name === 'classid') return name;
      throw new TypeError(`a set has the type ${name}`);
    });
}

/** Takes the messages of one read. Throws a TypeError when an element is none that we write. */
export function readMessages(data: Uint8Array, draft: TableDraft): void {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at + BODY <= data.length;) {
    const length = view.getUint32(at, LITTLE);
    if (length < HEADER) throw new TypeError('a netlink message without a length');
    readMessage(new Reader(data, view, at + BODY, at + length), view.getUint16(at + 4, LITTLE), draft);
    at += (length + 3) & ~3;
  }
}

function readMessage(body: Reader, type: number, draft: TableDraft): void {
  const attributes = body.attributes();
  if (attributes.get(TABLE_NAME)?.text() !== TABLE) return;
  switch (type) {
    case NEW_TABLE:
      draft.found = true;
      return;
    case NEW_CHAIN: {
      const name = attributes.get(CHAIN_NAME)?.text() ?? '';
      draft.chains.set(name, draft.chains.get(name) ?? 0);
      return;
    }
    case NEW_RULE: {
      const name = attributes.get(CHAIN_OF_RULE)?.text() ?? '';
      draft.chains.set(name, (draft.chains.get(name) ?? 0) + 1);
      return;
    }
    case NEW_SET:
      draft.containers.add(attributes.get(SET_NAME)?.text() ?? '');
      return;
    case NEW_ELEMENTS: {
      const container = TYPES[draft.family].get(attributes.get(SET_OF_ELEMENTS)?.text() ?? '');
      if (container) attributes.get(ELEMENTS)?.each((element) => readElement(element, container, draft));
    }
  }
}

function readElement(element: Reader, { prefix, key, value }: ContainerType, { family, elements }: TableDraft): void {
  const parts = element.attributes();
  const keyBytes = parts.get(ELEMENT_KEY)?.attributes().get(VALUE);
  if (!keyBytes) throw new TypeError('an element without a key');
  const data = parts.get(ELEMENT_DATA)?.attributes();
  elements.set(prefix + keyBytes.fields(key, family), valueText(data, value, family));
}

function valueText(
  data: ReadonlyMap<number, Reader> | undefined,
  type: ContainerType['value'],
  family: IpFamily,
): ElementValue {
  if (type === undefined) return '';
  if (type !== 'verdict') {
    const bytes = data?.get(VALUE);
    if (!bytes) throw new TypeError('an element without a value');
    return bytes.fields(type, family);
  }
  const verdict = data?.get(VERDICT)?.attributes();
  const code = verdict?.get(VERDICT_CODE)?.networkInt();
  if (code === GOTO) return `goto ${verdict?.get(VERDICT_CHAIN)?.text() ?? ''}`;
  if (code === DROP) return 'drop';
  throw new TypeError(`an element with the verdict ${code}`);
}

/** The bytes from `start` to `end`. */
class Reader {
  readonly #data: Uint8Array;
  readonly #view: DataView;
  readonly #start: number;
  readonly #end: number;

  constructor(data: Uint8Array, view: DataView, start: number, end: number) {
    if (end > data.length) throw new TypeError('a netlink message that is cut off');
    this.#data = data;
    this.#view = view;
    this.#start = start;
    this.#end = end;
  }

  attributes(): ReadonlyMap<number, Reader> {
    const found = new Map<number, Reader>();
    this.each((reader, type) => found.set(type, reader));
    return found;
  }

  each(take: (attribute: Reader, type: number) => void): void {
    for (let at = this.#start; at + 4 <= this.#end;) {
      const length = this.#view.getUint16(at, LITTLE);
      if (length < 4) throw new TypeError('a netlink attribute without a length');
      const type = this.#view.getUint16(at + 2, LITTLE) & ATTRIBUTE_MASK;
      take(new Reader(this.#data, this.#view, at + 4, at + length), type);
      at += (length + 3) & ~3;
    }
  }

  /** Up to the zero behind it. */
  text(): string {
    let text = '';
    for (let at = this.#start; at < this.#end; at++) {
      const byte = this.#data[at] ?? 0;
      if (byte === 0) break;
      text += String.fromCharCode(byte);
    }
    return text;
  }

  networkInt(): number {
    if (this.#end - this.#start < 4) throw new TypeError('a number that is cut off');
    return this.#view.getInt32(this.#start, false);
  }

  /** The parts of a key or value as nft writes them. Each begins on a boundary of four bytes. */
  fields(types: readonly FieldType[], family: IpFamily): string {
    let at = this.#start;
    let text = '';
    for (const type of types) {
      const size = type === 'address' && family === 6 ? 16 : 4;
      if (at + size > this.#end + 3) throw new TypeError('a key or value that is cut off');
      if (text !== '') text += ' . ';
      text += this.#field(type, at, size);
      at += size;
    }
    return text;
  }

  #field(type: FieldType, at: number, size: number): string {
    switch (type) {
      case 'address':
        return ipFromBytes(this.#data.subarray(at, at + size));
      case 'inet_proto':
        return protocolText(this.#data[at] ?? 0);
      case 'inet_service':
        return String(this.#view.getUint16(at, false));
      case 'classid':
        return String(this.#view.getUint32(at, LITTLE));
    }
  }
}

const PROTOCOLS: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

function protocolText(number: number): string {
  return PROTOCOLS[number] ?? String(number);
}
