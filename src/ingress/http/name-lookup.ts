// Names of ExternalName Services, asked for at each connection. What leads to this machine is refused after the answer, too: a name may change what
// it leads to.

import { lookup as systemLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { isOfThisMachine, parseIp } from '../../lib/ip.ts';

/** For `net.connect`. The first address that another machine can have; an error when there is none. */
export const lookupElsewhere: LookupFunction = (hostname, options, callback) => {
  systemLookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) {
      callback(error, '', 4);
      return;
    }
    const found = addresses.filter(({ address }) => {
      const ip = parseIp(address);
      return ip !== undefined && !isOfThisMachine(ip);
    });
    const [first] = found;
    if (!first) callback(new Error(`${hostname} leads to this machine`), '', 4);
    else if (options.all) callback(null, found);
    else callback(null, first.address, first.family);
  });
};
