import { X509Certificate, createPrivateKey } from 'node:crypto';
import { createSecureContext, type SecureContext, type TlsOptions } from 'node:tls';
import { messageOf } from '../lib/message-of.ts';
import type { ObjectKey, SecretRecord } from '../model/records.ts';
import type { Logger } from '../observe/log.ts';
import type { Tell } from './notice.ts';
import type { CertificateRef, RouteTable } from './route-table.ts';
import { selfSigned, type CertificatePair } from './self-signed.ts';

export const DEFAULT_CERTIFICATE_NAME = 'Fairlead Ingress Default Certificate';
const DEFAULT_CERTIFICATE_DAYS = 365;

type Parsed =
  | { readonly kind: 'pair'; readonly pair: CertificatePair; readonly expires: number }
  | { readonly kind: 'bad'; readonly reason: string };

/** A certificate in use, for metrics and the state. */
export interface CertificateState {
  readonly host: string;
  readonly secret: string;
  /** Milliseconds since 1970. */
  readonly expires: number;
}

/**
 * Which certificate a TLS client gets: by the lower-cased name that it asks for, then by `*.domain`, else the default one.
 * A Secret that changes is in force for the next handshake; contexts are made when the first client asks for one.
 */
export class CertificateTable {
  readonly #log: Logger;
  /** What a client gets for whose name there is no certificate. */
  readonly defaultPair: CertificatePair;
  readonly #default: SecureContext;
  readonly #parsed = new WeakMap<SecretRecord, Parsed>();
  readonly #contexts = new WeakMap<SecretRecord, SecureContext>();
  readonly #warned = new Map<string, string>();
  #table: RouteTable | undefined;

  /** `--default-ssl-certificate`: the Secret, `namespace/name`, in the place of the certificate made here. */
  readonly #defaultSecret: ObjectKey | undefined;

  readonly #tell: Tell;

  constructor(log: Logger, now: number, defaultSecret?: ObjectKey, tell: Tell = () => {}) {
    this.#log = log;
    this.#tell = tell;
    this.#defaultSecret = defaultSecret;
    this.defaultPair = selfSigned(DEFAULT_CERTIFICATE_NAME, ['ingress.local'], now, DEFAULT_CERTIFICATE_DAYS);
    this.#default = createSecureContext(this.defaultPair);
  }

  /** Takes the table and warns once of each Secret that an Ingress names and that cannot be used. */
  apply(table: RouteTable): void {
    const before = this.#table;
    this.#table = table;
    this.#checkDefault(before, table);
    if (before?.certificates === table.certificates && before.snapshot.secrets === table.snapshot.secrets) return;
    for (const [host, ref] of table.certificates.entries()) {
      const secret = table.snapshot.secrets.get(ref.secret);
      if (before?.certificates.get(host) === ref && before.snapshot.secrets.get(ref.secret) === secret) continue;
      this.#check(host, ref, secret);
    }
    for (const host of this.#warned.keys()) if (!table.certificates.has(host)) this.#warned.delete(host);
  }

  *states(): Generator<CertificateState> {
    for (const [host, ref] of this.#table?.certificates.entries() ?? []) {
      const secret = this.#table?.snapshot.secrets.get(ref.secret);
      const parsed = secret && this.#parse(secret);
      if (parsed?.kind === 'pair') yield { host, secret: ref.secret, expires: parsed.expires };
    }
  }

  /** Never throws: a throw in an SNI callback ends the process (CVE-2026-21637). */
  contextFor(servername: string): SecureContext {
    try {
      return this.#lookup(servername.toLowerCase()) ?? this.#defaultContext();
    } catch (error) {
      this.#log.warn('a certificate could not be loaded; the default certificate is served', {
        host: JSON.stringify(servername),
        error: messageOf(error),
      });
      return this.#default;
    }
  }

  #lookup(name: string): SecureContext | undefined {
    const host = name.endsWith('.') ? name.slice(0, -1) : name;
    const dot = host.indexOf('.');
    const exact = this.#contextOf(host);
    return exact ?? (dot > 0 ? this.#contextOf(`*${host.slice(dot)}`) : undefined);
  }

  #contextOf(host: string): SecureContext | undefined {
    const alias = this.#table?.otherNames.get(host)?.[0];
    const ref = this.#table?.certificates.get(host) ?? (alias && this.#table?.certificates.get(alias.host));
    const secret = ref && this.#table?.snapshot.secrets.get(ref.secret);
    return secret && this.#contextOfSecret(secret);
  }

  #contextOfSecret(secret: SecretRecord): SecureContext | undefined {
    const known = this.#contexts.get(secret);
    if (known) return known;
    const parsed = this.#parse(secret);
    if (parsed.kind === 'bad') return undefined;
    const context = createSecureContext(parsed.pair);
    this.#contexts.set(secret, context);
    return context;
  }

  #defaultContext(): SecureContext {
    const key = this.#defaultSecret;
    const secret = key === undefined ? undefined : this.#table?.snapshot.secrets.get(key);
    return (secret && this.#contextOfSecret(secret)) ?? this.#default;
  }

  /** What a client gets that names no host. */
  get defaultCertificate(): CertificatePair {
    const key = this.#defaultSecret;
    const secret = key === undefined ? undefined : this.#table?.snapshot.secrets.get(key);
    const parsed = secret && this.#parse(secret);
    return parsed?.kind === 'pair' ? parsed.pair : this.defaultPair;
  }

  #checkDefault(before: RouteTable | undefined, table: RouteTable): void {
    const key = this.#defaultSecret;
    if (key === undefined) return;
    const secret = table.snapshot.secrets.get(key);
    if (before && before.snapshot.secrets.get(key) === secret) return;
    const parsed = secret ? this.#parse(secret) : { kind: 'bad' as const, reason: 'it does not exist' };
    if (parsed.kind === 'pair') return;
    this.#log.warn('the Secret of --default-ssl-certificate cannot be used, so a certificate made here stands in', {
      secret: key,
      reason: parsed.reason,
    });
  }

  #parse(secret: SecretRecord): Parsed {
    const known = this.#parsed.get(secret);
    if (known) return known;
    const parsed = parsePair(secret);
    this.#parsed.set(secret, parsed);
    return parsed;
  }

  #check(host: string, ref: CertificateRef, secret: SecretRecord | undefined): void {
    const parsed = secret ? this.#parse(secret) : { kind: 'bad' as const, reason: 'it does not exist' };
    if (parsed.kind === 'pair') {
      this.#warned.delete(host);
      return;
    }
    const text = `${ref.ingress} ${ref.secret} ${parsed.reason}`;
    if (this.#warned.get(host) === text) return;
    this.#warned.set(host, text);
    this.#log.warn('the TLS Secret of an Ingress cannot be used, so its host gets the default certificate', {
      ingress: ref.ingress,
      secret: ref.secret,
      host,
      reason: parsed.reason,
      mend: 'give the Secret type kubernetes.io/tls with tls.crt and tls.key in PEM that belong together',
    });
    this.#tell({
      about: 'Ingress',
      key: ref.ingress,
      type: 'Warning',
      reason: 'SecretUnusable',
      note: `Secret ${ref.secret} of host ${host} cannot be used (${parsed.reason}); the default certificate is served`,
    });
  }
}

/** Options of a TLS listener: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1, certificates by name. */
export function tlsOptions(certificates: CertificateTable): TlsOptions {
  return {
    minVersion: 'TLSv1.2',
    ALPNProtocols: ['h2', 'http/1.1'],
    handshakeTimeout: 60_000,
    // For a client that names no host; of one that does, the callback decides.
    ...certificates.defaultPair,
    SNICallback: (servername, done) => done(null, certificates.contextFor(servername)),
  };
}

function parsePair(secret: SecretRecord): Parsed {
  const cert = secret.data.get('tls.crt');
  const key = secret.data.get('tls.key');
  if (!cert || !key) return { kind: 'bad', reason: `it has no ${cert ? 'tls.key' : 'tls.crt'}` };
  try {
    const parsed = new X509Certificate(cert);
    if (!parsed.checkPrivateKey(createPrivateKey(key)))
      return { kind: 'bad', reason: 'tls.key is not the key of tls.crt' };
    return { kind: 'pair', pair: { cert, key }, expires: parsed.validToDate.getTime() };
  } catch (error) {
    return {
      kind: 'bad',
      reason: `tls.crt or tls.key is malformed (${messageOf(error)})`,
    };
  }
}
