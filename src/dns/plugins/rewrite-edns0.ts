// rewrite edns0: what a question says by EDNS options. The client's own OPT record is answered as it was asked, whatever the rules add.

import { ipBytes, parseIp, type Ip } from '../../lib/ip.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import { integer } from '../corefile/words.ts';
import type { EdnsOption, OptionAction } from '../edns-option.ts';
import type { Asked } from '../handler.ts';
import type { Rule } from '../rewriting.ts';
import { nameText } from '../wire/name.ts';
import { uint16 } from '../wire/record.ts';

const NSID = 3;
const CLIENT_SUBNET = 8;
const ACTIONS: readonly OptionAction[] = ['set', 'append', 'replace', 'unset'];

/** local|nsid|subnet ACTION … [revert] */
export function edns0Rule(words: readonly string[], stop: boolean, place: Place): Rule {
  const [kind = '', actionWord = '', ...more] = words.map((word, i) => (i < 2 ? word.toLowerCase() : word));
  const action = ACTIONS.find((known) => known === actionWord);
  if (!action) throw new CorefileError(place, `rewrite edns0 takes ${ACTIONS.join(', ')}, not "${actionWord}"`);
  // What was asked with is never told back, so there is nothing for `revert` to do.
  const rest = action !== 'unset' && more.at(-1) === 'revert' ? more.slice(0, -1) : more;
  return { kind: 'edns0', stop, action, option: optionOf(kind, action, rest, place) };
}

type OptionFor = (asked: Asked) => EdnsOption | undefined;

function optionOf(kind: string, action: OptionAction, words: readonly string[], place: Place): OptionFor {
  const wants = (count: number, what: string): void => {
    if (words.length !== count) throw new CorefileError(place, `rewrite edns0 ${kind} ${action} takes ${what}`);
  };
  const [first = '', second = ''] = words;
  switch (kind) {
    case 'local': {
      wants(action === 'unset' ? 1 : 2, action === 'unset' ? 'CODE' : 'CODE DATA');
      const code = codeOf(first, place);
      const data = action === 'unset' ? () => '' : dataOf(second, place);
      return (asked) => {
        const value = data(asked);
        return value === undefined ? undefined : { code, data: value };
      };
    }
    case 'nsid':
      wants(0, 'nothing more');
      return () => ({ code: NSID, data: '' });
    case 'subnet': {
      wants(action === 'unset' ? 0 : 2, action === 'unset' ? 'nothing more' : 'the bits of IPv4 and IPv6 addresses');
      if (action === 'unset') return () => ({ code: CLIENT_SUBNET, data: '' });
      const bits4 = integer(first, place, 'the length of IPv4 subnets', 0, 32);
      const bits6 = integer(second, place, 'the length of IPv6 subnets', 0, 128);
      return (asked) => subnet(asked, bits4, bits6);
    }
    default:
      throw new CorefileError(place, `rewrite edns0 takes local, nsid or subnet, not "${kind}"`);
  }
}

function codeOf(word: string, place: Place): number {
  const code = /^(0[xX][0-9a-fA-F]+|0[oO]?[0-7]*|[1-9][0-9]*)$/.test(word)
    ? Number(word.replace(/^0(?=[0-7])/, '0o'))
    : NaN;
  if (!(code <= 0xffff)) throw new CorefileError(place, `"${word}" is no code of an EDNS option such as 0xffee`);
  return code;
}

type DataFor = (asked: Asked) => string | undefined;

/** Text, bytes as 0x…, or a variable in braces. */
function dataOf(word: string, place: Place): DataFor {
  if (word.startsWith('{') && word.endsWith('}')) return variable(word.slice(1, -1), place);
  if (!word.startsWith('0x')) {
    const text = Buffer.from(word, 'utf8').toString('latin1');
    return () => text;
  }
  if (!/^0x([0-9a-fA-F]{2})*$/.test(word)) throw new CorefileError(place, `"${word}" is no bytes such as 0x61626364`);
  const bytes = Buffer.from(word.slice(2), 'hex').toString('latin1');
  return () => bytes;
}

const VARIABLES: ReadonlyMap<string, DataFor> = new Map<string, DataFor>([
  ['qname', ({ query }) => nameText(query.name)],
  ['qtype', ({ query }) => uint16(query.type)],
  ['client_ip', ({ client }) => addressBytes(client?.address)],
  ['client_port', ({ client }) => client && uint16(client.port)],
  ['protocol', ({ transport }) => transport],
  ['server_ip', ({ arrived }) => addressBytes(arrived?.address)],
  ['server_port', ({ arrived }) => arrived && uint16(arrived.port)],
]);

function variable(name: string, place: Place): DataFor {
  const known = VARIABLES.get(name);
  if (known) return known;
  if (/^[^/]+\/.+$/.test(name)) return ({ metadata }) => metadata?.get(name) || undefined;
  const there = [...VARIABLES.keys()].join(', ');
  throw new CorefileError(place, `{${name}} is no variable of edns0; there are ${there}, and labels of metadata`);
}

function plainIp(address: string | undefined): Ip | undefined {
  return address === undefined ? undefined : parseIp(address.replace(/^::ffff:(?=[0-9.]+$)/, '').replace(/%.*/, ''));
}

function addressBytes(address: string | undefined): string | undefined {
  const ip = plainIp(address);
  return ip && String.fromCharCode(...ipBytes(ip));
}

/** RFC 7871 section 6: family, length, scope, and as many octets of the address as the length needs. */
function subnet({ client }: Asked, bits4: number, bits6: number): EdnsOption | undefined {
  const ip = plainIp(client?.address);
  if (!ip) return undefined;
  const bytes = [...ipBytes(ip)];
  const bits = bytes.length === 4 ? bits4 : bits6;
  const kept = bytes.slice(0, Math.ceil(bits / 8));
  const last = kept.length - 1;
  if (bits % 8 !== 0) kept[last] = (kept[last] ?? 0) & (0xff << (8 - (bits % 8)));
  const family = bytes.length === 4 ? 1 : 2;
  return { code: CLIENT_SUBNET, data: uint16(family) + String.fromCharCode(bits, 0, ...kept) };
}
