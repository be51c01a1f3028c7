// acl: which clients may ask what.

import { cidrContains, cidrOfIp, parseCidr, type Cidr } from '../../lib/cidr.ts';
import { parseIp } from '../../lib/ip.ts';
import { answered } from '../answers.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { unknownOption, zoneOf, zones } from '../corefile/words.ts';
import type { Handler } from '../handler.ts';
import { nameText, type DnsName } from '../wire/name.ts';
import { RCODE, RR, typeCode } from '../wire/types.ts';

type Action = 'allow' | 'block' | 'filter' | 'drop';

interface Policy {
  readonly action: Action;
  /** Undefined is every type. */
  readonly types: ReadonlySet<number> | undefined;
  /** Undefined is every address. */
  readonly nets: readonly Cidr[] | undefined;
}

const ACTIONS: readonly Action[] = ['allow', 'block', 'filter', 'drop'];
/** RFC 8914. */
const EDE_BLOCKED = { code: 15, text: '' };
const EDE_FILTERED = { code: 17, text: '' };

/** The first policy that fits decides; questions of our own are not asked by a client. */
export function aclHandler(
  zoneNames: readonly DnsName[],
  policies: readonly Policy[],
  { metrics, labels }: Pick<BlockServices, 'metrics' | 'labels'>,
): Handler {
  const counter = (what: string, names: readonly string[]) =>
    metrics.counter({
      name: `coredns_acl_${what}_requests_total`,
      help: `Queries that acl has ${what}.`,
      labels: names,
    });
  const byZone = ['server', 'zone', 'view'];
  const counts = {
    block: counter('blocked', byZone),
    filter: counter('filtered', byZone),
    drop: counter('dropped', byZone),
  };
  const allowed = counter('allowed', ['server', 'view']);
  return {
    name: 'acl',
    handle: (asked, next) => {
      const { query, client } = asked;
      const zone = client && zoneOf(query.key, zoneNames);
      if (!client || zone === undefined) return next(asked);
      const ip = parseIp(client.address.replace(/^::ffff:(?=[0-9.]+$)/, ''));
      const fits = policies.find(
        ({ types, nets }) =>
          (types?.has(query.type) ?? true) && (nets?.some((net) => ip !== undefined && cidrContains(net, ip)) ?? true),
      );
      if (!fits || fits.action === 'allow') {
        allowed.add(1, labels);
        return next(asked);
      }
      counts[fits.action].add(1, { ...labels, zone: nameText(zone) });
      switch (fits.action) {
        case 'block':
          return answered({ rcode: RCODE.REFUSED, ede: EDE_BLOCKED, authoritative: false });
        case 'filter':
          return answered({ ede: EDE_FILTERED, authoritative: false });
        case 'drop':
          return { kind: 'silence' };
      }
    },
  };
}

export const acl: PluginDefinition = {
  name: 'acl',
  once: false,
  setup: ({ args, options, place }, draft) => {
    const zoneNames = zones(args, place, draft.zones);
    const policies = options.map(readPolicy);
    draft.answer('acl', (services) => aclHandler(zoneNames, policies, services));
  },
};

function readPolicy({ name, args, place }: Option): Policy {
  const action = ACTIONS.find((known) => known === name);
  if (!action) throw unknownOption('acl', name, place, ACTIONS);
  const types: string[] = [];
  const nets: string[] = [];
  let into: string[] | undefined;
  for (const word of args) {
    if (word === 'type') into = types;
    else if (word === 'net') into = nets;
    else if (into) into.push(word);
    else throw new CorefileError(place, `${name} takes type TYPE… and net RANGE…, not "${word}"`);
  }
  if (args.includes('type') && types.length === 0) throw new CorefileError(place, 'type needs at least one type, or *');
  if (args.includes('net') && nets.length === 0) throw new CorefileError(place, 'net needs at least one range, or *');
  return {
    action,
    types: types.length === 0 || types.includes('*') ? undefined : new Set(types.map((type) => readType(type, place))),
    nets: nets.length === 0 || nets.includes('*') ? undefined : nets.map((net) => readNet(net, place)),
  };
}

function readType(text: string, place: Option['place']): number {
  const type = text.toUpperCase() === 'ANY' ? RR.ANY : typeCode(text);
  if (type === undefined) throw new CorefileError(place, `"${text}" is no record type`);
  return type;
}

function readNet(text: string, place: Option['place']): Cidr {
  const ip = parseIp(text);
  const net = ip ? cidrOfIp(ip) : parseCidr(text);
  if (!net) throw new CorefileError(place, `"${text}" is no address and no range such as 10.0.0.0/8`);
  return net;
}
