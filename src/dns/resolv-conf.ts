// The upstream servers that /etc/resolv.conf names (resolv.conf(5)): its `nameserver` lines.

import { isUnspecified, type Ip } from '../lib/ip.ts';
import { parseUpstream, type UpstreamServer } from './upstream.ts';
import { lowerName, parseName, type DnsName } from './wire/name.ts';

/** CoreDNS takes as many. */
const MOST_SERVERS = 15;

export interface ResolvConf {
  readonly servers: readonly UpstreamServer[];
  /** What follows `nameserver` and is no address that can be used: a name, or an address with a zone (`fe80::1%eth0`). */
  readonly unusable: readonly string[];
}

export function parseResolvConf(text: string): ResolvConf {
  const servers: UpstreamServer[] = [];
  const unusable: string[] = [];
  for (const line of text.split('\n')) {
    const value = /^nameserver[ \t]+([^ \t\r#;]+)/.exec(line)?.[1];
    if (value === undefined) continue;
    const server = parseUpstream(value);
    if (server) servers.push(server);
    else unusable.push(value);
  }
  return { servers: servers.slice(0, MOST_SERVERS), unusable };
}

/** The search list, lower case: that of the last `search` or `domain` line. */
export function parseSearch(text: string): readonly DnsName[] {
  let words: readonly string[] = [];
  for (const line of text.split('\n')) {
    const value = /^(?:search|domain)[ \t]+(.*?)[ \t\r]*$/.exec(line)?.[1];
    if (value !== undefined) words = value.split(/[ \t]+/);
  }
  return words.flatMap((word) => {
    const name = parseName(word);
    return name ? [lowerName(name)] : [];
  });
}

/** Whether a question sent to `server` would come back to a listener of ours: then it is no upstream. */
export function isOurselves(
  server: UpstreamServer,
  listening: readonly { readonly address: Ip; readonly port: number }[],
  ownAddresses: readonly Ip[],
): boolean {
  return listening.some(({ address, port }) => {
    if (port !== server.port) return false;
    if (address === server.address) return true;
    const local =
      ownAddresses.includes(server.address) || server.address.startsWith('127.') || isUnspecified(server.address);
    return isUnspecified(address) && address.includes(':') === server.address.includes(':') && local;
  });
}
