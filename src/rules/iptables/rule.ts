// One rule as text, exactly as `iptables-save` writes it, so that what is read back is compared by its letters.

import { cidrOfIp, type Cidr } from '../../lib/cidr.ts';
import { ipFamily, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { Protocol } from '../../model/records.ts';
import type { ChainName } from './names.ts';

export interface RuleParts {
  /** `-s 10.0.0.0/8`, with `! ` before it when negated. */
  readonly source?: string | undefined;
  readonly destination?: Ip | Cidr | undefined;
  /** The destination is another one. */
  readonly notDestination?: Cidr | undefined;
  /** `-i cni0`, with `! ` before it when negated. */
  readonly input?: string | undefined;
  readonly protocol?: Protocol | undefined;
  readonly comment?: string | undefined;
  /** Matches between the comment and the port. */
  readonly matches?: string | undefined;
  readonly port?: number | undefined;
  /** Matches behind the port. */
  readonly last?: string | undefined;
  /** What stands behind `-j`; a rule without only carries its comment. */
  readonly target?: string | undefined;
}

/** A line of the chain, with its end. */
export function rule(chain: ChainName, parts: RuleParts): string {
  const { source, destination, notDestination, input, protocol, comment, matches, port, last, target } = parts;
  let text = `-A ${chain}`;
  if (source !== undefined) text += ` ${source}`;
  if (destination !== undefined) text += ` -d ${range(destination)}`;
  if (notDestination !== undefined) text += ` ! -d ${notDestination}`;
  if (input !== undefined) text += ` ${input}`;
  const name = protocol?.toLowerCase();
  if (name !== undefined) text += ` -p ${name}`;
  if (comment !== undefined) text += ` -m comment --comment ${quoted(comment)}`;
  if (matches !== undefined) text += ` ${matches}`;
  if (name !== undefined) text += ` -m ${name}`;
  if (port !== undefined) text += ` --dport ${port}`;
  if (last !== undefined) text += ` ${last}`;
  if (target !== undefined) text += ` -j ${target}`;
  return `${text}\n`;
}

export function fromSource(source: Ip | Cidr): string {
  return `-s ${range(source)}`;
}

function range(text: Ip | Cidr): string {
  return text.includes('/') ? text : cidrOfIp(text as Ip);
}

export function quoted(comment: string): string {
  return /^[A-Za-z0-9_-]+$/.test(comment) ? comment : `"${comment.replaceAll(/["\\]/g, '\\$&')}"`;
}

/** One of `count`, with the precision that the kernel keeps (units of 2^-31). */
export function oneOf(count: number): string {
  const units = Math.round(0x8000_0000 / count);
  return `-m statistic --mode random --probability ${(units / 0x8000_0000).toFixed(11)}`;
}

/** Where the source address was seen at this endpoint in the last so many seconds. */
export function seenBefore(list: string, seconds: number, family: IpFamily): string {
  return `-m recent --rcheck --seconds ${seconds} --reap --name ${list} --mask ${wholeMask(family)} --rsource`;
}

export function remember(list: string, family: IpFamily): string {
  return `-m recent --set --name ${list} --mask ${wholeMask(family)} --rsource`;
}

function wholeMask(family: IpFamily): string {
  return family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff';
}

/**
 * As kube-proxy refuses, but for TCP over IPv6: an ICMPv6 error often meets the client's socket while `connect` still holds
 * it, and counts a second later; a reset counts at once.
 */
export function reject(family: IpFamily, protocol: Protocol): string {
  if (family === 4) return 'REJECT --reject-with icmp-port-unreachable';
  return `REJECT --reject-with ${protocol === 'TCP' ? 'tcp-reset' : 'icmp6-port-unreachable'}`;
}

export function dnat(ip: Ip, port: number): string {
  return `DNAT --to-destination ${ipFamily(ip) === 4 ? ip : `[${ip}]`}:${port}`;
}
