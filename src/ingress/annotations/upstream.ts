// backend-protocol and service-upstream: how a backend is reached.

import type { GlobalSettings } from '../global-settings.ts';
import { readBackendTls, type BackendTlsSettings } from './proxy-ssl.ts';
import type { SettingReader } from './reader.ts';

export type BackendProtocol = 'http' | 'https' | 'grpc' | 'grpcs';

export interface UpstreamSettings {
  readonly protocol: BackendProtocol;
  /** For `https` and `grpcs`. */
  readonly tls?: BackendTlsSettings;
  /** The ClusterIP of the Service instead of its endpoints. */
  readonly serviceAddress: boolean;
  /** AUTO_HTTP: TLS for requests that came over TLS. */
  readonly byClient: boolean;
}

export function readUpstream(reader: SettingReader, globals: GlobalSettings, namespace: string): UpstreamSettings {
  const text = reader.guard('backend-protocol');
  const protocol = readProtocol(reader, text);
  const tls = readBackendTls(reader, globals, namespace);
  const serviceAddress = reader.bool('service-upstream') ?? globals.serviceUpstream;
  const byClient = text?.toUpperCase() === 'AUTO_HTTP';
  return protocol === 'https' || protocol === 'grpcs' || byClient
    ? { protocol, tls, serviceAddress, byClient }
    : { protocol, serviceAddress, byClient };
}

function readProtocol(reader: SettingReader, text: string | undefined): BackendProtocol {
  const word = text?.toUpperCase() ?? 'HTTP';
  switch (word) {
    case 'HTTP':
    case 'HTTPS':
    case 'GRPC':
    case 'GRPCS':
      return word.toLowerCase() as BackendProtocol;
    case 'AUTO_HTTP':
      return 'http';
    case 'FCGI':
      reader.denies('backend-protocol', 'FCGI is not supported; HTTP, HTTPS, AUTO_HTTP, GRPC and GRPCS are');
      return 'http';
    default:
      reader.ignored('backend-protocol', `${JSON.stringify(text)} is not known; HTTP is used`);
      return 'http';
  }
}

/** What sets one way to an endpoint apart from another; empty for plain HTTP. */
export function wayOf({ protocol, tls }: UpstreamSettings): string {
  if (protocol === 'http') return '';
  if (!tls) return protocol;
  const { secret, verify, verifyDepth, name, sendName, versions, ciphers } = tls;
  return [protocol, secret, verify, verifyDepth, name, sendName, versions.min, versions.max, ciphers].join(' ');
}
