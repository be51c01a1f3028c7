// The query log: one line for one answered question, in the words of its format.

import type { QueryLog } from './block.ts';
import { zoneOf } from './corefile/words.ts';
import type { Asked } from './handler.ts';
import { nameText } from './wire/name.ts';
import { CLASS_IN, FLAG, RCODE, rcodeName, typeName } from './wire/types.ts';

export interface Logged {
  readonly asked: Asked;
  readonly packet: Buffer;
  /** Bytes of the question's message. */
  readonly size: number;
  readonly seconds: number;
}

type Field = (logged: Logged) => string;

const FIELDS: ReadonlyMap<string, Field> = new Map<string, Field>([
  ['remote', ({ asked }) => hostOf(asked.client?.address ?? '')],
  ['port', ({ asked }) => String(asked.client?.port ?? 0)],
  ['local', ({ asked }) => hostOf(asked.arrived?.address ?? '')],
  ['type', ({ asked }) => typeName(asked.query.type)],
  ['class', ({ asked }) => (asked.query.klass === CLASS_IN ? 'IN' : `CLASS${asked.query.klass}`)],
  ['name', ({ asked }) => nameText(asked.query.name)],
  ['proto', ({ asked }) => asked.transport],
  ['size', ({ size }) => String(size)],
  ['rcode', ({ packet }) => rcodeName((packet[3] ?? 0) & 0xf)],
  ['rsize', ({ packet }) => String(packet.length)],
  ['duration', ({ seconds }) => `${seconds.toFixed(9).replace(/0+$/, '').replace(/\.$/, '')}s`],
  ['>id', ({ asked }) => String(asked.query.id)],
  ['>opcode', () => '0'],
  ['>do', ({ asked }) => String(asked.query.edns?.dnssecOk ?? false)],
  ['>bufsize', ({ asked }) => String(asked.query.edns?.udpSize ?? 512)],
  ['>rflags', ({ packet }) => flagsText(packet.readUInt16BE(2))],
]);

/** IPv6 in brackets, as before a port. */
function hostOf(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

const FLAG_NAMES = [
  ['qr', FLAG.QR],
  ['aa', FLAG.AA],
  ['tc', FLAG.TC],
  ['rd', FLAG.RD],
  ['ra', FLAG.RA],
  ['ad', FLAG.AD],
  ['cd', FLAG.CD],
] as const;

function flagsText(flags: number): string {
  const set = FLAG_NAMES.filter(([, bit]) => flags & bit).map(([name]) => name);
  return set.length > 0 ? set.join(',') : '-';
}

/** A field that a format names and there is not. */
export function unknownField(format: string): string | undefined {
  for (const [whole, name = ''] of format.matchAll(/\{([^}]*)\}/g))
    if (!FIELDS.has(name) && !name.startsWith('/')) return whole;
  return undefined;
}

/** `{/label}` is what `metadata` has under that label. */
function fieldOf(name: string, logged: Logged): string {
  if (name.startsWith('/')) return logged.asked.metadata?.get(name.slice(1)) || '-';
  // What is no field is the text that it is.
  return FIELDS.get(name)?.(logged) ?? `{${name}}`;
}

/** The line of the first log that takes the question; undefined when none does. */
export function queryLine(logs: readonly QueryLog[], logged: Logged): string | undefined {
  const { key } = logged.asked.query;
  const log = logs.find(({ zones }) => zoneOf(key, zones) !== undefined);
  if (!log?.classes.has(classOf(logged.packet))) return undefined;
  return log.format.replace(/\{([^}]*)\}/g, (_, name: string) => fieldOf(name, logged));
}

/** NODATA is a denial too. */
function classOf(packet: Buffer): 'success' | 'denial' | 'error' {
  const rcode = (packet[3] ?? 0) & 0xf;
  if (rcode === RCODE.NXDOMAIN) return 'denial';
  if (rcode !== RCODE.NOERROR) return 'error';
  return packet.readUInt16BE(6) === 0 && packet.readUInt16BE(8) > 0 ? 'denial' : 'success';
}
