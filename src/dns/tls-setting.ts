// What a TLS server is made of, and which clients it keeps.

import type { SecureContextOptions, TLSSocket } from 'node:tls';

/** As CoreDNS names them. */
export const CLIENT_AUTH = ['nocert', 'request', 'require', 'verify_if_given', 'require_and_verify'] as const;
export type ClientAuth = (typeof CLIENT_AUTH)[number];

/** PEM texts. */
export interface TlsSetting {
  readonly certificate: string;
  readonly key: string;
  /** Whose certificates of clients are good. */
  readonly ca: string | undefined;
  readonly clientAuth: ClientAuth;
}

export function contextOptions({ certificate, key, ca }: TlsSetting): SecureContextOptions {
  return { cert: certificate, key, minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca }) };
}

export function authOptions({ clientAuth }: TlsSetting): { requestCert: boolean; rejectUnauthorized: boolean } {
  return { requestCert: clientAuth !== 'nocert', rejectUnauthorized: clientAuth === 'require_and_verify' };
}

/** Whether a client with that certificate, or without one, is served. */
export function mayStay(socket: TLSSocket, clientAuth: ClientAuth): boolean {
  const given = clientAuth === 'nocert' ? false : Object.keys(socket.getPeerCertificate()).length > 0;
  switch (clientAuth) {
    case 'nocert':
    case 'request':
      return true;
    case 'require':
      return given;
    case 'verify_if_given':
      return !given || socket.authorized;
    case 'require_and_verify':
      return given && socket.authorized;
  }
}
