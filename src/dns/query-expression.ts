// What expressions know of a query: the functions of CoreDNS' `view`.

import { cidrContains, parseCidr } from '../lib/cidr.ts';
import { parseIp } from '../lib/ip.ts';
import type { Functions } from './expression.ts';
import { ExpressionError, type Value } from './expression-value.ts';
import type { Asked } from './handler.ts';
import { nameText } from './wire/name.ts';
import { CLASS_CH, CLASS_IN, MIN_UDP_SIZE, typeName } from './wire/types.ts';

const own = (call: (asked: Asked) => Value) => ({ arity: 0, call });

type Entry = readonly [
  string,
  { readonly arity: number; readonly call: (asked: Asked, args: readonly Value[]) => Value },
];

const ENTRIES: readonly Entry[] = [
  ['type', own(({ query }) => typeName(query.type))],
  ['name', own(({ query }) => nameText(query.key))],
  ['class', own(({ query }) => classText(query.klass))],
  ['proto', own(({ transport }) => transport)],
  ['size', own(({ arrived }) => arrived?.size ?? 0)],
  ['client_ip', own(({ client }) => client?.address.replace(/^::ffff:(?=[0-9.]+$)/, '') ?? '')],
  ['port', own(({ client }) => String(client?.port ?? 0))],
  ['id', own(({ query }) => query.id)],
  ['opcode', own(() => 0)],
  ['do', own(({ query }) => query.edns?.dnssecOk ?? false)],
  ['bufsize', own(({ query }) => query.edns?.udpSize ?? MIN_UDP_SIZE)],
  ['server_ip', own(({ arrived }) => arrived?.address ?? '')],
  ['server_port', own(({ arrived }) => String(arrived?.port ?? 0))],
  ['metadata', { arity: 1, call: ({ metadata }, [label]) => metadata?.get(String(label)) ?? '' }],
  ['incidr', { arity: 2, call: (_, [ip, range]) => inRange(ip, range) }],
];

export const QUERY_FUNCTIONS: Functions<Asked> = new Map(ENTRIES);

export function classText(klass: number): string {
  if (klass === CLASS_IN) return 'IN';
  return klass === CLASS_CH ? 'CH' : `CLASS${klass}`;
}

function inRange(ipText: Value, rangeText: Value): boolean {
  const ip = parseIp(String(ipText));
  const range = parseCidr(String(rangeText));
  if (!ip || !range) throw new ExpressionError('incidr() takes an address and a range such as 10.0.0.0/8');
  return cidrContains(range, ip);
}
