// Client certificates: what a host asks for in the handshake, and what the certificate that came means for a request.

import { X509Certificate } from 'node:crypto';
import type { SecretRecord } from '../model/records.ts';
import type { ClientCertificateSettings } from './annotations/auth-tls.ts';
import type { TemplateRequest } from './annotations/template.ts';
import type { Answer } from './http/answer.ts';
import type { PeerFacts } from './http/forward.ts';

type Authorities =
  | { readonly kind: 'ready'; readonly ca: string; readonly crl: string | undefined }
  | { readonly kind: 'bad'; readonly reason: string };

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The authorities of each state of a Secret, read once. */
export class AuthoritiesMemo {
  readonly #read = new WeakMap<SecretRecord, Authorities>();

  of(secret: SecretRecord | undefined): Authorities {
    const known = secret && this.#read.get(secret);
    if (known) return known;
    const authorities = authoritiesOf(secret);
    if (secret) this.#read.set(secret, authorities);
    return authorities;
  }
}

/** Who may sign client certificates, of the Secret that auth-tls-secret names. */
function authoritiesOf(secret: SecretRecord | undefined): Authorities {
  const ca = secret?.data.get('ca.crt');
  if (ca === undefined) return { kind: 'bad', reason: secret ? 'it has no ca.crt' : 'it does not exist' };
  const certificates = ca.match(CERTIFICATE) ?? [];
  if (certificates.length === 0) return { kind: 'bad', reason: 'ca.crt holds no certificate in PEM' };
  try {
    const parsed = certificates.map((certificate) => new X509Certificate(certificate));
    if (parsed.some(({ raw }) => raw.length === 0)) return { kind: 'bad', reason: 'ca.crt is malformed' };
  } catch {
    return { kind: 'bad', reason: 'ca.crt is malformed' };
  }
  return { kind: 'ready', ca, crl: secret?.data.get('ca.crl') };
}

/** What the backend is told, as lines. */
interface Shown {
  readonly kind: 'shown';
  readonly fields: string;
}

/** Fields that only we may set where client certificates are asked for. */
export const CERTIFICATE_FIELDS = [
  'ssl-client-cert',
  'ssl-client-verify',
  'ssl-client-subject-dn',
  'ssl-client-issuer-dn',
];

/**
 * Judges one request by the certificate of its connection, in nginx' terms: 400 without a fitting certificate, 403 for another subject.
 * A request without TLS has none.
 */
export function judgeCertificate(
  settings: ClientCertificateSettings,
  peer: PeerFacts | undefined,
  request: TemplateRequest,
): Answer | Shown {
  const certificate = peer?.certificate;
  const failure = certificate && failureOf(settings, peer);
  const mayFail = settings.verify === 'optional_no_ca';
  if (!certificate && settings.verify === 'on') return refusal(settings, request, 'no client certificate was sent');
  if (failure !== undefined && !mayFail) return refusal(settings, request, 'the client certificate is not valid');
  const subject = certificate ? distinguishedName(certificate.subject) : '';
  if (settings.matchCn && !settings.matchCn.test(subject)) {
    return { status: 403, reason: 'this client certificate may not enter' };
  }
  const verdict = certificate ? (failure === undefined ? 'SUCCESS' : `FAILED:${failure}`) : 'NONE';
  let fields = `ssl-client-verify: ${oneLine(verdict)}\r\n`;
  if (certificate) {
    fields += `ssl-client-subject-dn: ${oneLine(subject)}\r\nssl-client-issuer-dn: ${oneLine(distinguishedName(certificate.issuer))}\r\n`;
    if (settings.pass) fields += `ssl-client-cert: ${encodeURIComponent(certificate.toString())}\r\n`;
  }
  return { kind: 'shown', fields };
}

/** Why the certificate does not count; undefined when it does. */
function failureOf(settings: ClientCertificateSettings, peer: PeerFacts): string | undefined {
  if (peer.error !== undefined) return peer.error;
  return peer.chainLength - 2 > settings.depth ? 'certificate chain too long' : undefined;
}

function refusal(settings: ClientCertificateSettings, request: TemplateRequest, reason: string): Answer {
  return settings.errorPage
    ? { status: 302, reason, location: settings.errorPage.render(request) }
    : { status: 400, reason };
}

/** RFC 2253, as nginx' `$ssl_client_s_dn`: the last part of the name first. */
function distinguishedName(lines: string): string {
  return lines
    .split('\n')
    .filter((line) => line !== '')
    .toReversed()
    .map((line) => {
      const at = line.indexOf('=');
      return `${line.slice(0, at)}=${line.slice(at + 1).replace(/[,+"\\<>;]/g, '\\$&')}`;
    })
    .join(',');
}

function oneLine(text: string): string {
  return text.replace(/[^\u0020-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed()));
}
