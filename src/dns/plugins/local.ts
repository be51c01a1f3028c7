// local: localhost and the zones that never leave a machine (RFC 6303).

import type { Ip } from '../../lib/ip.ts';
import { answered } from '../answers.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, unknownOption, zoneOf } from '../corefile/words.ts';
import type { Handler, Outcome } from '../handler.ts';
import { parseName, prependLabel, type DnsName } from '../wire/name.ts';
import { addressData, soaData, type ResourceRecord } from '../wire/record.ts';
import { RCODE, RR } from '../wire/types.ts';

const TTL = 604_800;
const LOCALHOST_LABEL = '\x09localhost';
const LOCALHOST = `${LOCALHOST_LABEL}\0` as DnsName;
const ZONES: readonly DnsName[] = ['localhost', '0.in-addr.arpa', '127.in-addr.arpa', '255.in-addr.arpa']
  .map((text) => parseName(text))
  .filter((name) => name !== undefined);
const LOOPBACK = parseName('1.0.0.127.in-addr.arpa');
const ADDRESSES: ReadonlyMap<number, Ip> = new Map([
  [RR.A, '127.0.0.1' as Ip],
  [RR.AAAA, '::1' as Ip],
]);

/** `prefix`: whether names whose first label is localhost are those of this machine too, as a search path makes them. */
function localHandler(prefix: boolean, { metrics }: Pick<BlockServices, 'metrics'>): Handler {
  const below = metrics.counter({
    name: 'coredns_local_localhost_requests_total',
    help: 'Queries for names that localhost stands at the end or the beginning of.',
  });
  below.add(0);
  return {
    name: 'local',
    handle: (asked, next) => {
      const { key, type } = asked.query;
      const zone = zoneOf(key, ZONES);
      const isBelow = key !== LOCALHOST && (zone === LOCALHOST || (prefix && key.startsWith(LOCALHOST_LABEL)));
      if (isBelow) below.add();
      if (isBelow || key === LOCALHOST) return loopback(asked.query.name, key === LOCALHOST, type);
      if (zone === undefined) return next(asked);
      if (key === LOOPBACK && type === RR.PTR) return told(record(type, LOCALHOST));
      if (key !== zone) return nothing(zone, key === LOOPBACK ? RCODE.NOERROR : RCODE.NXDOMAIN);
      return apex(zone, type) ?? nothing(zone);
    },
  };
}

function loopback(name: DnsName, isApex: boolean, type: number): Outcome {
  const ip = ADDRESSES.get(type);
  if (ip !== undefined) return told(record(type, addressData(ip)));
  return (isApex ? apex(name, type) : undefined) ?? nothing(name);
}

function apex(zone: DnsName, type: number): Outcome | undefined {
  if (type === RR.NS) return told(record(type, LOCALHOST));
  return type === RR.SOA ? told(soaOf(zone)) : undefined;
}

function told(answer: ResourceRecord): Outcome {
  return answered({ answer: [answer], authoritative: false });
}

function nothing(zone: DnsName, rcode: number = RCODE.NOERROR): Outcome {
  return answered({ rcode, authority: [soaOf(zone)], authoritative: false });
}

function record(type: number, data: string): ResourceRecord {
  return { owner: undefined, type, ttl: TTL, data };
}

function soaOf(zone: DnsName): ResourceRecord {
  const mailbox = prependLabel('root', LOCALHOST) ?? LOCALHOST;
  const data = soaData({ primary: LOCALHOST, mailbox, serial: 1, refresh: 0, retry: 0, expire: 0, minimum: TTL });
  return { owner: zone, type: RR.SOA, ttl: TTL, data };
}

export const local: PluginDefinition = {
  name: 'local',
  once: false,
  setup: ({ args, options, place }, draft) => {
    count(args, place, 'local', 0);
    let prefix = true;
    for (const { name, args: words, place: at } of options) {
      if (name !== 'localhost_prefix') throw unknownOption('local', name, at, ['localhost_prefix']);
      if (words.length !== 1 || (words[0] !== 'on' && words[0] !== 'off'))
        throw new CorefileError(at, 'localhost_prefix is on or off');
      prefix = words[0] === 'on';
    }
    draft.answer('local', (services) => localHandler(prefix, services));
  },
};
