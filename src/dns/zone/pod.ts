// The addresses in Pod names: `10-0-0-1.<namespace>.pod.<zone>`.

import { parseIp, type Ip } from '../../lib/ip.ts';
import { dashedIp } from './service.ts';
import type { PodMode } from './zone.ts';

/**
 * The address that a label spells: IPv4 with exactly three dashes and no two of them together, else IPv6 with dashes
 * for colons. Mode `verified` takes only the spelling that we would make of the address. Undefined for anything else.
 */
export function podAddress(label: string, mode: PodMode): Ip | undefined {
  const dashes = label.split('-').length - 1;
  const ip = parseIp(label.replaceAll('-', dashes === 3 && !label.includes('--') ? '.' : ':'));
  if (!ip || mode !== 'verified') return ip;
  const canonical = dashedIp(ip);
  return label === canonical || `${label}0` === canonical ? ip : undefined;
}
