// whoami: the client's own address and port, in the Additional section.

import { parseIp } from '../../lib/ip.ts';
import { answered } from '../answers.ts';
import type { PluginDefinition } from '../block.ts';
import { count } from '../corefile/words.ts';
import type { Handler } from '../handler.ts';
import { prependLabel, ROOT } from '../wire/name.ts';
import { addressData, addressType, srvData, type ResourceRecord } from '../wire/record.ts';
import { RR } from '../wire/types.ts';

const handler: Handler = {
  name: 'whoami',
  handle: ({ query, client, transport }) => {
    const ip = client && parseIp(client.address);
    if (!client || !ip) return answered({});
    const additional: ResourceRecord[] = [{ owner: undefined, type: addressType(ip), ttl: 0, data: addressData(ip) }];
    const service = prependLabel(`_${transport}`, query.name);
    if (service) additional.push({ owner: service, type: RR.SRV, ttl: 0, data: srvData(0, 0, client.port, ROOT) });
    return answered({ additional });
  },
};

export const whoami: PluginDefinition = {
  name: 'whoami',
  once: false,
  setup: ({ args, place }, draft) => {
    count(args, place, 'whoami', 0);
    draft.answer('whoami', () => handler);
  },
};
