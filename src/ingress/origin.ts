// Where a request comes from: the connection, or what a trusted peer says of the client that it stands for.

import { cidrContains } from '../lib/cidr.ts';
import { parseIp, type Ip } from '../lib/ip.ts';
import type { TrustSettings } from './front-settings.ts';
import { forwardingFields, plainAddress } from './http/client-address.ts';
import type { ClientFacts, Origin } from './http/forward.ts';
import { isUriHost, type RequestHead } from './http/request-head.ts';

/** Undefined where the connection says it all. `head` is read during the call only. */
export function originOf(trust: TrustSettings, client: ClientFacts, head: RequestHead): Origin | undefined {
  if (trust.addressField === undefined || !isTrusted(trust, client.remoteAddress)) return undefined;
  const chain = chainOf(head, trust.addressField);
  const remoteAddress = clientIn(trust, chain) ?? client.remoteAddress;
  const scheme = trust.forwarded ? schemeIn(firstOf(head.header('x-forwarded-proto'))) : undefined;
  const secure =
    scheme === 'https' || scheme === 'wss' ? true : scheme === 'http' || scheme === 'ws' ? false : client.secure;
  const port = trust.forwarded ? portIn(firstOf(head.header('x-forwarded-port'))) : undefined;
  const named = trust.forwarded ? firstOf(head.header('x-forwarded-host')) : undefined;
  const host = named !== undefined && isUriHost(named) ? named : undefined;
  const localPort = port ?? client.localPort;
  const list = trust.fullForwardedFor ? [...chain, client.remoteAddress].join(', ') : remoteAddress;
  return {
    ...client,
    secure,
    remoteAddress,
    localPort,
    host,
    forwarding: forwardingFields(remoteAddress, localPort, secure, list, scheme),
  };
}

/** The addresses of the field, the first client first; what follows something that is no address is not believed. */
function chainOf(head: RequestHead, field: string): readonly string[] {
  const text = field === 'x-forwarded-for' ? head.forwardedFor : (head.header(field) ?? '');
  const parts = text.split(',').map((part) => part.trim());
  const addresses: string[] = [];
  for (const part of parts.toReversed()) {
    const ip = addressIn(part);
    if (ip === undefined) break;
    addresses.unshift(ip);
  }
  return addresses;
}

/** nginx' real_ip_recursive: from the nearest on, the first that is not a trusted peer; if all are, the first of all. */
function clientIn(trust: TrustSettings, chain: readonly string[]): string | undefined {
  return chain.toReversed().find((address) => !isTrusted(trust, address)) ?? chain[0];
}

function isTrusted(trust: TrustSettings, address: string): boolean {
  const ip = parseIp(address);
  return ip !== undefined && trust.peers.some((range) => cidrContains(range, ip));
}

/** An address with or without a port; IPv6 with a port has brackets. */
function addressIn(text: string): Ip | undefined {
  const bracket = /^\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?$/.exec(text);
  const ported = /^([0-9.]+):[0-9]{1,5}$/.exec(text);
  return parseIp(plainAddress(bracket?.[1] ?? ported?.[1] ?? text));
}

function firstOf(value: string | undefined): string | undefined {
  const first = value?.split(',', 1)[0]?.trim();
  return first === '' ? undefined : first;
}

/** RFC 3986 section 3.1. */
function schemeIn(text: string | undefined): string | undefined {
  return text !== undefined && /^[A-Za-z][A-Za-z0-9+.-]{0,31}$/.test(text) ? text.toLowerCase() : undefined;
}

function portIn(text: string | undefined): number | undefined {
  const port = text !== undefined && /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  return port > 0 && port < 65_536 ? port : undefined;
}
