// The certificates and rules with which TLS backends are met, made of annotations and their Secret.

import {
  createSecureContext,
  checkServerIdentity,
  type ConnectionOptions,
  type PeerCertificate,
  type SecureContext,
} from 'node:tls';
import { messageOf } from '../lib/message-of.ts';
import type { SecretRecord } from '../model/records.ts';
import type { BackendTlsSettings } from './annotations/proxy-ssl.ts';

/** More distinct settings than this are made again. */
const MAX_PLAIN = 1000;

export type BackendTls =
  | { readonly kind: 'ready'; readonly options: ConnectionOptions }
  | { readonly kind: 'bad'; readonly reason: string };

/** Makes the context of each settings once for each state of its Secret. */
export class BackendTlsContexts {
  readonly #made = new WeakMap<
    BackendTlsSettings,
    { readonly secret: SecretRecord | undefined; readonly tls: BackendTls }
  >();

  /** Contexts without a Secret, which many Ingresses share. */
  readonly #plain = new Map<string, BackendTls>();

  of(settings: BackendTlsSettings, secret: SecretRecord | undefined): BackendTls {
    if (settings.secret === undefined) return this.#plainOf(settings);
    const known = this.#made.get(settings);
    if (known && known.secret === secret) return known.tls;
    const tls = backendTls(settings, secret);
    this.#made.set(settings, { secret, tls });
    return tls;
  }

  #plainOf(settings: BackendTlsSettings): BackendTls {
    const { name, sendName, versions, ciphers } = settings;
    const key = [name, sendName, versions.min, versions.max, ciphers].join(' ');
    let tls = this.#plain.get(key);
    if (!tls) this.#plain.set(key, (tls = backendTls(settings, undefined)));
    if (this.#plain.size > MAX_PLAIN) this.#plain.clear();
    return tls;
  }
}

/** How a backend is met. `bad` when what was asked for cannot be done: then no request goes to it. */
export function backendTls(settings: BackendTlsSettings, secret: SecretRecord | undefined): BackendTls {
  if (settings.secret !== undefined && !secret) {
    return { kind: 'bad', reason: `the Secret ${settings.secret} does not exist` };
  }
  const cert = secret?.data.get('tls.crt');
  const key = secret?.data.get('tls.key');
  const ca = secret?.data.get('ca.crt');
  if ((cert === undefined) !== (key === undefined))
    return { kind: 'bad', reason: 'tls.crt and tls.key belong together' };
  if (settings.verify && ca === undefined) return { kind: 'bad', reason: 'the Secret has no ca.crt to verify with' };
  let secureContext: SecureContext;
  try {
    secureContext = createSecureContext({
      minVersion: settings.versions.min,
      maxVersion: settings.versions.max,
      ...(settings.ciphers === undefined ? {} : { ciphers: settings.ciphers }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
      ...(ca === undefined ? {} : { ca }),
    });
  } catch (error) {
    return { kind: 'bad', reason: messageOf(error) };
  }
  const { name } = settings;
  return {
    kind: 'ready',
    options: {
      secureContext,
      rejectUnauthorized: settings.verify,
      ...(settings.sendName && name !== undefined ? { servername: name } : {}),
      checkServerIdentity: (host, certificate) => checkPeer(settings, name ?? host, certificate),
    },
  };
}

/** Called for a certificate whose chain is valid. */
function checkPeer(settings: BackendTlsSettings, name: string, certificate: PeerCertificate): Error | undefined {
  if (!settings.verify) return undefined;
  const intermediates = chainLength(certificate) - 2;
  return intermediates > settings.verifyDepth
    ? new Error(`the chain has ${intermediates} intermediate certificates`)
    : checkServerIdentity(name, certificate);
}

/** Certificates from the peer's to the authority's. */
function chainLength(certificate: PeerCertificate): number {
  let length = 1;
  let at: PeerCertificate | undefined = certificate;
  while (at && length < 32) {
    const issuer: PeerCertificate | undefined =
      'issuerCertificate' in at ? (at.issuerCertificate as PeerCertificate) : undefined;
    if (!issuer || issuer.fingerprint256 === at.fingerprint256) return length;
    at = issuer;
    length++;
  }
  return length;
}
