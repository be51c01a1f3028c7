// dns64: IPv6 addresses for names that have IPv4 ones only (RFC 6147).

import { cidrFamily, parseCidr, prefixLength } from '../../lib/cidr.ts';
import { ipBytes, type Ip } from '../../lib/ip.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import { count, unknownOption } from '../corefile/words.ts';
import { messageOf, replyOf, type Handler, type Outcome } from '../handler.ts';
import { askThrough } from '../resolve-outside.ts';
import { coded } from '../answers.ts';
import type { Message, OwnedRecord } from '../wire/message.ts';
import { CLASS_IN, FLAG, RCODE, RR } from '../wire/types.ts';

/** Where the authority of the empty answer says nothing (RFC 6147 section 5.1.7). */
const TTL_WITHOUT_SOA = 600;
const WELL_KNOWN = '64:ff9b::/96';

interface Dns64Options {
  readonly prefix: Prefix;
  readonly translateAll: boolean;
  readonly allowIpv4: boolean;
}

interface Prefix {
  readonly bytes: Uint8Array;
  /** 32, 40, 48, 56, 64 or 96 (RFC 6052 section 2.2); others that are whole octets are taken, too. */
  readonly bits: number;
}

export function dns64Handler(options: Dns64Options, services: BlockServices): Handler {
  const translated = services.metrics.counter({
    name: 'coredns_dns64_requests_translated_total',
    help: 'Queries that were answered with IPv6 addresses made of IPv4 ones.',
    labels: ['server'],
  });
  return {
    name: 'dns64',
    handle: async (asked, next) => {
      const { query } = asked;
      const six = asked.client?.address.includes(':') === true && !asked.client.address.startsWith('::ffff:');
      if (query.type !== RR.AAAA || query.klass !== CLASS_IN || !(six || options.allowIpv4)) return next(asked);
      const outcome = await next(asked);
      const first = messageOf(asked, outcome);
      if (!first || !needsTranslation(first, options.translateAll)) return outcome;
      const second = await askThrough(services.ask, query.name, RR.A, asked);
      if (!second) return coded(RCODE.SERVFAIL, 'dns64: the question for IPv4 addresses was not answered');
      translated.add(1, { server: services.labels.server });
      return synthesized(first, second, options.prefix);
    },
  };
}

/** NXDOMAIN is for every type (section 5.1.2); any other failure is as an empty answer. */
function needsTranslation(first: Message, all: boolean): boolean {
  if (first.rcode === RCODE.NXDOMAIN) return false;
  return all || !first.answer.some(({ type }) => type === RR.AAAA);
}

function synthesized(first: Message, second: Message, prefix: Prefix): Outcome {
  const soa = first.authority.find(({ type }) => type === RR.SOA);
  const most = soa?.ttl ?? TTL_WITHOUT_SOA;
  const answer = second.answer.map((record): OwnedRecord => {
    if (record.type !== RR.A) return record;
    return { ...record, type: RR.AAAA, ttl: Math.min(record.ttl, most), data: embedded(prefix, record.data) };
  });
  const { rcode, authority, additional } = second;
  // What was made up here is nobody's authority, and no signature covers it.
  const flags = second.flags & (FLAG.RA | FLAG.TC);
  return { kind: 'reply', reply: replyOf({ flags, rcode, answer, authority, additional }) };
}

/** RFC 6052 section 2.2: the address stands behind the prefix, but octet 8 stays zero. */
export function embedded({ bytes, bits }: Prefix, address: string): string {
  const out = new Uint8Array(16);
  out.set(bytes.subarray(0, bits / 8));
  let at = bits / 8;
  for (let i = 0; i < 4; i++) {
    if (at === 8) at++;
    out[at++] = address.charCodeAt(i);
  }
  return String.fromCharCode(...out);
}

export const dns64: PluginDefinition = {
  name: 'dns64',
  once: false,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'dns64', 0, 1);
    let prefix = prefixOf(args[0] ?? WELL_KNOWN, place);
    let translateAll = false;
    let allowIpv4 = false;
    for (const option of options) {
      if (option.name === 'prefix') {
        count(option.args, option.place, 'prefix', 1);
        prefix = prefixOf(option.args[0] ?? '', option.place);
      } else {
        if (option.name === 'translate_all') translateAll = true;
        else if (option.name === 'allow_ipv4') allowIpv4 = true;
        else throw unknownOption('dns64', option.name, option.place, ['prefix', 'translate_all', 'allow_ipv4']);
        count(option.args, option.place, option.name, 0);
      }
    }
    draft.answer('dns64', (services) => dns64Handler({ prefix, translateAll, allowIpv4 }, services));
  },
};

function prefixOf(text: string, place: Place): Prefix {
  const range = parseCidr(text);
  const bits = range && cidrFamily(range) === 6 ? prefixLength(range) : NaN;
  if (!range || !(bits >= 32 && bits <= 96 && bits % 8 === 0))
    throw new CorefileError(
      place,
      `"${text}" is no prefix for dns64: an IPv6 range such as ${WELL_KNOWN} was expected`,
    );
  return { bytes: Uint8Array.from(ipBytes(range.slice(0, range.indexOf('/')) as Ip)), bits };
}
