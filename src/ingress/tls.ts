import { X509Certificate, constants, createPrivateKey } from 'node:crypto';
import { createSecureContext, type SecureContext, type TlsOptions } from 'node:tls';
import { messageOf } from '../lib/message-of.ts';
import type { ObjectKey, SecretRecord } from '../model/records.ts';
import type { Logger } from '../observe/log.ts';
import type { Tell } from './notice.ts';
import { AuthoritiesMemo } from './client-certificate.ts';
import type { FrontSettings } from './front-settings.ts';
import { DEFAULT_GLOBALS } from './global-settings.ts';
import type { TlsFront, TlsPlace } from './listener.ts';
import { findHost, hostName } from './match.ts';
import type { CertificateRef, RouteTable } from './route-table.ts';
import { selfSigned, type CertificatePair } from './self-signed.ts';

/** Stands for the authorities of a context that asks for no certificate. */
const NO_AUTHORITIES = {};

/** As ingress-nginx calls its own: alerts and people look for it. */
export const DEFAULT_CERTIFICATE_NAME = 'Kubernetes Ingress Controller Fake Certificate';
const DEFAULT_CERTIFICATE_DAYS = 365;

type Parsed =
  | {
      readonly kind: 'pair';
      readonly pair: CertificatePair;
      readonly expires: number;
      readonly issuer: CertificateState['issuer'];
      readonly serial: string;
      readonly keyKind: string;
      /** The DNS names that it is for, in lower case. */
      readonly names: readonly string[];
    }
  | { readonly kind: 'bad'; readonly reason: string };

/** A certificate in use, for metrics and the state. */
export interface CertificateState {
  readonly host: string;
  readonly secret: string;
  /** Milliseconds since 1970. */
  readonly expires: number;
  readonly issuer: { readonly organization: string; readonly commonName: string };
  /** As a decimal number. */
  readonly serial: string;
  /** `RSA`, `ECDSA`, `Ed25519`. */
  readonly keyKind: string;
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
  /** By certificate, then by the Secret of the authorities. */
  #contexts = new WeakMap<CertificatePair, WeakMap<object, SecureContext>>();
  readonly #authorities = new AuthoritiesMemo();
  /** Ciphers and curves of the ConfigMap. */
  #rules: TlsOptions = {};
  #front: FrontSettings | undefined;
  readonly #warned = new Map<string, string>();
  #table: RouteTable | undefined;

  /** `--default-ssl-certificate`: the Secret, `namespace/name`, in the place of the certificate made here. */
  readonly #defaultSecret: ObjectKey | undefined;

  readonly #tell: Tell;
  /** Somebody else says what is wrong with Secrets: one is read when its first client asks for it. */
  readonly #lazy: boolean;

  constructor(
    log: Logger,
    now: number,
    defaultSecret?: ObjectKey,
    tell: Tell = () => {},
    ownPair?: CertificatePair,
    lazy = false,
  ) {
    this.#log = log;
    this.#lazy = lazy;
    this.#tell = tell;
    this.#defaultSecret = defaultSecret;
    this.defaultPair =
      ownPair ?? selfSigned(DEFAULT_CERTIFICATE_NAME, ['ingress.local'], now, DEFAULT_CERTIFICATE_DAYS);
    this.#default = createSecureContext(this.defaultPair);
  }

  /** Takes the table and warns once of each Secret that an Ingress names and that cannot be used. */
  apply(table: RouteTable): void {
    const before = this.#table;
    this.#table = table;
    this.#takeFront((table.selection.globals ?? DEFAULT_GLOBALS).front);
    this.#checkDefault(before, table);
    if (this.#lazy) return;
    const { secrets } = table.snapshot;
    if (before?.snapshot.secrets === secrets) {
      for (const { key: host, after: ref } of table.certificates.differences(before.certificates)) {
        if (ref) this.#check(host, ref, secrets.get(ref.secret));
        else this.#warned.delete(host);
      }
      return;
    }
    for (const [host, ref] of table.certificates.entries()) {
      const secret = secrets.get(ref.secret);
      if (before?.certificates.get(host) === ref && before.snapshot.secrets.get(ref.secret) === secret) continue;
      this.#check(host, ref, secret);
    }
    for (const host of this.#warned.keys()) if (!table.certificates.has(host)) this.#warned.delete(host);
  }

  #takeFront(front: FrontSettings): void {
    if (front === this.#front) return;
    this.#front = front;
    this.#contexts = new WeakMap();
    const { ciphers, curves } = front;
    this.#rules = {
      ...(ciphers === undefined ? {} : this.#usable('ssl-ciphers', { ciphers })),
      ...(curves === undefined ? {} : this.#usable('ssl-ecdh-curve', { ecdhCurve: curves })),
    };
  }

  #usable(key: string, rules: TlsOptions): TlsOptions {
    try {
      createSecureContext(rules);
      return rules;
    } catch (error) {
      this.#log.warn(`${key} of the ConfigMap cannot be used; the default is`, { error: messageOf(error) });
      return {};
    }
  }

  /** Those of the ConfigMap, when they can be used. */
  get usable(): { readonly ciphers: string | undefined; readonly curves: string | undefined } {
    return { ciphers: this.#rules.ciphers, curves: this.#rules.ecdhCurve };
  }

  *states(): Generator<CertificateState> {
    for (const [host, ref] of this.#table?.certificates.entries() ?? []) {
      const secret = this.#table?.snapshot.secrets.get(ref.secret);
      const parsed = secret && this.#parse(secret);
      if (parsed?.kind === 'pair') {
        const { expires, issuer, serial, keyKind } = parsed;
        yield { host, secret: ref.secret, expires, issuer, serial, keyKind };
      }
    }
  }

  /** For the clients of a name. Never throws: a throw in an SNI callback ends the process (CVE-2026-21637). */
  contextFor(servername: string): SecureContext {
    return this.#safely(servername, (name) => this.#context(this.#pairFor(name), undefined));
  }

  /** The same, for a connection that is asked for a certificate of the host's authorities. */
  clientContextFor(servername: string): SecureContext {
    return this.#safely(servername, (name) => this.#context(this.#pairFor(name), this.authoritiesFor(name)));
  }

  /** The Secret with the authorities of the client certificates that a name asks for; undefined for one that asks for none. */
  authoritiesFor(servername: string): SecretRecord | undefined {
    const settings = this.#table && findHost(this.#table, hostName(servername))?.clientCertificate;
    const secret = settings && this.#table?.snapshot.secrets.get(settings.secret);
    return secret && this.#authorities.of(secret).kind === 'ready' ? secret : undefined;
  }

  #safely(servername: string, make: (name: string) => SecureContext): SecureContext {
    try {
      return make(servername.toLowerCase());
    } catch (error) {
      this.#log.warn('a certificate could not be loaded; the default certificate is served', {
        host: JSON.stringify(servername),
        error: messageOf(error),
      });
      return this.#default;
    }
  }

  #pairFor(name: string): CertificatePair {
    const host = name.endsWith('.') ? name.slice(0, -1) : name;
    const dot = host.indexOf('.');
    return this.#pairOf(host) ?? (dot > 0 ? this.#pairOf(`*${host.slice(dot)}`) : undefined) ?? this.defaultCertificate;
  }

  #pairOf(host: string): CertificatePair | undefined {
    const alias = this.#table?.otherNames.get(host)?.[0];
    const own = this.#table?.certificates.get(host);
    const ref = own ?? (alias && this.#table?.certificates.get(alias.host));
    const secret = ref && this.#table?.snapshot.secrets.get(ref.secret);
    const parsed = secret && this.#parseFor(own ? host : (alias?.host ?? host), secret);
    return parsed?.kind === 'pair' ? parsed.pair : undefined;
  }

  /** Made when the first client asks for it. */
  #context(pair: CertificatePair, authorities: SecretRecord | undefined): SecureContext {
    const by = authorities ?? NO_AUTHORITIES;
    let made = this.#contexts.get(pair);
    if (!made) this.#contexts.set(pair, (made = new WeakMap()));
    let context = made.get(by);
    if (!context)
      made.set(by, (context = createSecureContext({ ...pair, ...this.#rules, ...this.#clientRules(authorities) })));
    return context;
  }

  #clientRules(secret: SecretRecord | undefined): TlsOptions {
    const authorities = secret && this.#authorities.of(secret);
    if (authorities?.kind !== 'ready') return {};
    const { ca, crl } = authorities;
    return crl === undefined ? { ca } : { ca, crl };
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

  /** As ingress-nginx: a certificate for other names is not served. */
  #parseFor(host: string, secret: SecretRecord): Parsed {
    const parsed = this.#parse(secret);
    if (parsed.kind === 'bad' || parsed.names.some((name) => isFor(name, host))) return parsed;
    return { kind: 'bad', reason: `its certificate is for ${parsed.names.join(', ') || 'no name'}` };
  }

  #check(host: string, ref: CertificateRef, secret: SecretRecord | undefined): void {
    const parsed = secret ? this.#parseFor(host, secret) : { kind: 'bad' as const, reason: 'it does not exist' };
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

/** What a TLS listener asks: HTTP/2 and HTTP/1.1, certificates by name, and where a name has a place of its own. */
export function tlsFront(
  certificates: CertificateTable,
  front: () => FrontSettings,
  passthrough: (name: string) => TlsPlace | undefined,
  needsName: () => boolean,
  isServed: (name: string) => boolean,
): TlsFront {
  const common: TlsOptions = {
    minVersion: 'TLSv1.2',
    handshakeTimeout: 60_000,
    // For a client that names no host; of one that does, the callback decides.
    ...certificates.defaultPair,
    ALPNCallback: ({ protocols }) => {
      if (front().http2 && protocols.includes('h2')) return 'h2';
      return protocols.includes('http/1.1') ? 'http/1.1' : undefined;
    },
  };
  return {
    options: { ...common, SNICallback: (name, done) => done(null, certificates.contextFor(name)) },
    clientOptions: {
      ...common,
      requestCert: true,
      // The request is answered with 400 rather than the handshake refused.
      rejectUnauthorized: false,
      sessionIdContext: 'client certificates',
      secureOptions: constants.SSL_OP_NO_TICKET,
      SNICallback: (name, done) => done(null, certificates.clientContextFor(name)),
    },
    needsName,
    placeOf: (name) => {
      const authorities = certificates.authoritiesFor(name);
      const special = passthrough(name) ?? (authorities && { kind: 'client-certificate' as const, authorities });
      if (special) return special;
      return front().rejectUnknown && !isServed(name) ? { kind: 'refused' } : { kind: 'here' };
    },
  };
}

/** The subject alternative names; without any the common name, which old certificates have alone. */
function namesOf({ subjectAltName, subject }: X509Certificate): readonly string[] {
  const names = [...(subjectAltName ?? '').matchAll(/DNS:([^\s,"]+)/g)].flatMap(([, name]) => name ?? []);
  const common = /^CN=(.+)$/m.exec(subject)?.[1];
  const all = names.length > 0 || common === undefined ? names : [common];
  return all.map((name) => name.toLowerCase());
}

/** `*.domain` is for one label more. */
function isFor(name: string, host: string): boolean {
  return (
    name === host || (name.startsWith('*.') && !host.startsWith('*') && host.slice(host.indexOf('.')) === name.slice(1))
  );
}

/** In Go's words, which dashboards know. */
const KEY_KINDS: ReadonlyMap<string, string> = new Map([
  ['rsa', 'RSA'],
  ['ec', 'ECDSA'],
  ['ed25519', 'Ed25519'],
  ['dsa', 'DSA'],
]);

/** An attribute of a distinguished name; empty where it has none. */
function wordOf(name: string, attribute: string): string {
  return new RegExp(`^${attribute}=(.*)$`, 'm').exec(name)?.[1] ?? '';
}

function parsePair(secret: SecretRecord): Parsed {
  const cert = secret.data.get('tls.crt');
  const key = secret.data.get('tls.key');
  if (!cert || !key) return { kind: 'bad', reason: `it has no ${cert ? 'tls.key' : 'tls.crt'}` };
  try {
    const parsed = new X509Certificate(cert);
    if (!parsed.checkPrivateKey(createPrivateKey(key)))
      return { kind: 'bad', reason: 'tls.key is not the key of tls.crt' };
    return {
      kind: 'pair',
      pair: { cert, key },
      expires: parsed.validToDate.getTime(),
      issuer: { organization: wordOf(parsed.issuer, 'O'), commonName: wordOf(parsed.issuer, 'CN') },
      serial: BigInt(`0x${parsed.serialNumber}`).toString(),
      keyKind: KEY_KINDS.get(parsed.publicKey.asymmetricKeyType ?? '') ?? 'Unknown',
      names: namesOf(parsed),
    };
  } catch (error) {
    return {
      kind: 'bad',
      reason: `tls.crt or tls.key is malformed (${messageOf(error)})`,
    };
  }
}
