import { X509Certificate } from 'node:crypto';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { SecretRecord } from '../model/records.ts';
import type { PeerFacts } from './http/forward.ts';

const NOBODY: PeerFacts = { authorities: undefined, certificate: undefined, error: undefined, chainLength: 0 };

/** What a TLS client has shown of itself, where it was asked for a certificate of these authorities. */
export function peerFacts(socket: TLSSocket, authorities: SecretRecord | undefined): PeerFacts {
  if (!authorities) return NOBODY;
  const detailed = socket.getPeerCertificate(true);
  if (!('raw' in detailed)) return { ...NOBODY, authorities };
  return {
    authorities,
    certificate: new X509Certificate(detailed.raw),
    error: socket.authorized ? undefined : String(socket.authorizationError),
    chainLength: chainLength(detailed),
  };
}

/** A certificate that has signed itself names itself as its issuer. */
function chainLength(certificate: DetailedPeerCertificate): number {
  let length = 1;
  let at: DetailedPeerCertificate | undefined = certificate;
  while (length < 32) {
    const issuer: DetailedPeerCertificate | undefined = at.issuerCertificate;
    if (!issuer || issuer === at || issuer.fingerprint256 === at.fingerprint256) break;
    at = issuer;
    length++;
  }
  return length;
}
