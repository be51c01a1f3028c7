// A certificate for hosts that have none, made without a tool: the few DER structures of RFC 5280 that it takes.

import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';

export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

const TAG = {
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  utcTime: 0x17,
  generalTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;
const DNS_NAME = 0x82;
const EXPLICIT_VERSION = 0xa0;
const EXPLICIT_EXTENSIONS = 0xa3;
const OID_COMMON_NAME = Buffer.from([0x55, 0x04, 0x03]);
const OID_SUBJECT_ALT_NAME = Buffer.from([0x55, 0x1d, 0x11]);
const OID_ECDSA_SHA256 = Buffer.from([0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]);

/** A self-signed P-256 certificate, valid from a day before `now` (milliseconds since 1970) for `days`. */
export function selfSigned(commonName: string, names: readonly string[], now: number, days: number): CertificatePair {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = der(TAG.sequence, der(TAG.oid, OID_ECDSA_SHA256));
  const name = der(
    TAG.sequence,
    der(TAG.set, der(TAG.sequence, der(TAG.oid, OID_COMMON_NAME), der(TAG.utf8, Buffer.from(commonName)))),
  );
  const dayMs = 86_400_000;
  const validity = der(TAG.sequence, time(now - dayMs), time(now + days * dayMs));
  const alternatives = der(TAG.sequence, ...names.map((text) => der(DNS_NAME, Buffer.from(text, 'latin1'))));
  const extension = der(TAG.sequence, der(TAG.oid, OID_SUBJECT_ALT_NAME), der(TAG.octets, alternatives));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const body = der(
    TAG.sequence,
    der(EXPLICIT_VERSION, der(TAG.integer, Buffer.from([2]))),
    der(TAG.integer, serial),
    algorithm,
    name,
    validity,
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(EXPLICIT_EXTENSIONS, der(TAG.sequence, extension)),
  );
  const signature = sign('sha256', body, privateKey);
  const certificate = der(TAG.sequence, body, algorithm, der(TAG.bits, Buffer.from([0]), signature));
  return { cert: pem(certificate), key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

/** RFC 5280 section 4.1.2.5: UTCTime before 2050, GeneralizedTime from then on. */
function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return Number(digits.slice(0, 4)) < 2050
    ? der(TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`))
    : der(TAG.generalTime, Buffer.from(`${digits}Z`));
}

function pem(certificate: Buffer): string {
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
