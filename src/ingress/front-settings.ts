// ConfigMap keys of what lies in front of the routes: TLS and HTTP/2 with clients, the PROXY protocol, and whom to believe about clients.

import { createHash } from 'node:crypto';
import { parseCidr, type Cidr } from '../lib/cidr.ts';
import { isFieldName, type SettingReader } from './annotations/reader.ts';
import { readCipherList, readTlsVersions, type TlsVersions } from './annotations/tls-words.ts';

/** Whose word counts about a client that another proxy stands for. */
export interface TrustSettings {
  /** `use-forwarded-headers`: X-Forwarded-Proto, -Port and -Host of a trusted peer are the request's. */
  readonly forwarded: boolean;
  /** `use-forwarded-headers` or `enable-real-ip`: the client's address is in this field, in lower case. */
  readonly addressField: string | undefined;
  /** `compute-full-forwarded-for`: the peer is added to X-Forwarded-For, instead of standing there alone. */
  readonly fullForwardedFor: boolean;
  /** `proxy-real-ip-cidr`: peers that are believed. */
  readonly peers: readonly Cidr[];
}

export interface FrontSettings {
  readonly versions: TlsVersions;
  readonly ciphers: string | undefined;
  /** TLS sessions may be resumed. */
  readonly resumption: boolean;
  /** How long a session may be resumed. */
  readonly sessionMs: number;
  /** 48 bytes in base64 that every replica derives its tickets' keys from; undefined: each process makes its own. */
  readonly ticketKeys: string | undefined;
  /** Whether OpenSSL knows them shows where they are used. */
  readonly curves: string | undefined;
  /** A handshake for a name that no Ingress has is refused. */
  readonly rejectUnknown: boolean;
  readonly http2: boolean;
  readonly maxStreams: number;
  readonly proxyProtocol: boolean;
  readonly proxyProtocolMs: number;
  readonly trust: TrustSettings;
}

/** ingress-nginx' defaults. */
export const DEFAULT_FRONT: FrontSettings = {
  versions: { min: 'TLSv1.2', max: 'TLSv1.3' },
  ciphers: undefined,
  resumption: true,
  sessionMs: 600_000,
  ticketKeys: undefined,
  curves: undefined,
  rejectUnknown: false,
  http2: true,
  maxStreams: 128,
  proxyProtocol: false,
  proxyProtocolMs: 5_000,
  trust: {
    forwarded: false,
    addressField: undefined,
    fullForwardedFor: false,
    peers: ['0.0.0.0/0', '::/0'].flatMap((text) => parseCidr(text) ?? []),
  },
};

export function readFront(reader: SettingReader, base: FrontSettings): FrontSettings {
  // Either of nginx' two ways lets a client resume; here it is one.
  const cache = reader.bool('ssl-session-cache') ?? true;
  const tickets = reader.bool('ssl-session-tickets') ?? false;
  const proxyProtocol = reader.bool('use-proxy-protocol') ?? base.proxyProtocol;
  return {
    versions: readTlsVersions(reader, 'ssl-protocols') ?? base.versions,
    ciphers: readCipherList(reader, 'ssl-ciphers') ?? base.ciphers,
    resumption: cache || tickets,
    sessionMs: reader.time('ssl-session-timeout') ?? base.sessionMs,
    ticketKeys: readTicketKeys(reader),
    curves: readCurves(reader),
    rejectUnknown: reader.bool('ssl-reject-handshake') ?? base.rejectUnknown,
    http2: reader.bool('use-http2') ?? base.http2,
    maxStreams: Math.max(1, reader.integer('http2-max-concurrent-streams', 10_000) ?? base.maxStreams),
    proxyProtocol,
    proxyProtocolMs: reader.seconds('proxy-protocol-header-timeout') ?? base.proxyProtocolMs,
    trust: readTrust(reader, base.trust, proxyProtocol),
  };
}

/** nginx takes 80 bytes, or 48; what is used here is made of all of them. */
function readTicketKeys(reader: SettingReader): string | undefined {
  const text = reader.text('ssl-session-ticket-key');
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== 80 && bytes.length !== 48) {
    return reader.ignored(
      'ssl-session-ticket-key',
      'it is not 80 or 48 random bytes in base64; make them with "openssl rand 80 | base64 -w0"',
    );
  }
  return createHash('sha384').update(bytes).digest('base64');
}

function readCurves(reader: SettingReader): string | undefined {
  const text = reader.text('ssl-ecdh-curve');
  if (text === undefined || text === 'auto') return undefined;
  const known = /^[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9_-]{1,64}){0,15}$/.test(text);
  return known ? text : reader.ignored('ssl-ecdh-curve', 'it is no list of curves such as X25519:prime256v1');
}

/**
 * `proxied`: the PROXY protocol names the client. It is then no peer that everybody's word is taken from: what it says of others in
 * X-Forwarded-For counts only where proxy-real-ip-cidr is given and has its address.
 */
function readTrust(reader: SettingReader, base: TrustSettings, proxied: boolean): TrustSettings {
  const forwarded = reader.bool('use-forwarded-headers') ?? base.forwarded;
  const realIp = reader.bool('enable-real-ip') ?? false;
  const field = reader.text('forwarded-for-header') ?? 'X-Forwarded-For';
  const known = isFieldName(field);
  if (!known) reader.ignored('forwarded-for-header', `${JSON.stringify(field)} is no header name`);
  return {
    forwarded,
    addressField: forwarded || realIp ? (known ? field.toLowerCase() : 'x-forwarded-for') : undefined,
    fullForwardedFor: reader.bool('compute-full-forwarded-for') ?? base.fullForwardedFor,
    peers: reader.ranges('proxy-real-ip-cidr') ?? (proxied ? [] : base.peers),
  };
}
