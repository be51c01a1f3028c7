// The addresses of health, ready, prometheus and pprof: `:8080`, `localhost:9153`, `10.0.0.1:80`, `[::1]:80`.

import { parseIp, type Ip } from '../../lib/ip.ts';
import { CorefileError, type Place } from './error.ts';
import type { HttpAddress } from '../block.ts';

export function httpAddress(text: string, place: Place): HttpAddress {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3] ?? NaN);
  const address = host === 'localhost' ? ('127.0.0.1' as Ip) : parseIp(host);
  if (!(port <= 65_535) || (host !== '' && !address))
    throw new CorefileError(place, `"${text}" is no address to listen on: [IP]:PORT was expected, such as :8080`);
  return { address, port, place };
}
