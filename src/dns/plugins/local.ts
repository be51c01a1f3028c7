// local: localhost and the zones that never leave a machine (RFC 6303).

import type { Ip } from '../../lib/ip.ts';
import { answered } from '../answers.ts';
import type { PluginDefinition } from '../block.ts';
import { zoneOf } from '../corefile/words.ts';
import type { Handler } from '../handler.ts';
import { parseName, prependLabel, type DnsName } from '../wire/name.ts';
import { addressData, soaData, type ResourceRecord } from '../wire/record.ts';
import { RR } from '../wire/types.ts';

const TTL = 86_400;
const LOCALHOST = parseName('localhost');
const ZONES: readonly DnsName[] = ['localhost', '0.in-addr.arpa', '127.in-addr.arpa', '255.in-addr.arpa']
  .map((text) => parseName(text))
  .filter((name) => name !== undefined);
const LOOPBACK = parseName('1.0.0.127.in-addr.arpa');
const ADDRESSES: ReadonlyMap<number, Ip> = new Map([
  [RR.A, '127.0.0.1' as Ip],
  [RR.AAAA, '::1' as Ip],
]);

const handler: Handler = {
  name: 'local',
  handle: (asked, next) => {
    const { key, type } = asked.query;
    const zone = zoneOf(key, ZONES);
    if (zone === undefined) return next(asked);
    const record = (data: string): ResourceRecord => ({ owner: undefined, type, ttl: TTL, data });
    if (zone === LOCALHOST) {
      const ip = ADDRESSES.get(type);
      if (ip !== undefined) return answered({ answer: [record(addressData(ip))] });
    }
    if (key === LOOPBACK && type === RR.PTR && LOCALHOST) return answered({ answer: [record(LOCALHOST)] });
    if (key === zone && type === RR.NS && LOCALHOST) return answered({ answer: [record(LOCALHOST)] });
    if (key === zone && type === RR.SOA) return answered({ answer: [soaOf(zone)] });
    return answered({ authority: [soaOf(zone)] });
  },
};

function soaOf(zone: DnsName): ResourceRecord {
  const primary = LOCALHOST ?? zone;
  const mailbox = prependLabel('root', primary) ?? primary;
  const data = soaData({ primary, mailbox, serial: 1, refresh: 0, retry: 0, expire: 0, minimum: TTL });
  return { owner: zone, type: RR.SOA, ttl: TTL, data };
}

export const local: PluginDefinition = {
  name: 'local',
  once: false,
  setup: (_directive, draft) => draft.answer('local', () => handler),
};
