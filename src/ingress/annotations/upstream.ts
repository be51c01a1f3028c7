// backend-protocol and service-upstream: how a backend is reached.

import type { GlobalSettings } from '../global-settings.ts';
import type { SettingReader } from './reader.ts';

export interface UpstreamSettings {
  readonly protocol: 'http' | 'https';
  /** The ClusterIP of the Service instead of its endpoints. */
  readonly serviceAddress: boolean;
}

export function readUpstream(reader: SettingReader, globals: GlobalSettings): UpstreamSettings {
  const text = reader.guard('backend-protocol');
  const protocol = text?.toUpperCase() ?? 'HTTP';
  if (/^(GRPC|GRPCS|FCGI|AUTO_HTTP)$/.test(protocol)) {
    reader.denies('backend-protocol', `${protocol} is not supported yet; HTTP and HTTPS are`);
  } else if (protocol !== 'HTTP' && protocol !== 'HTTPS') {
    reader.ignored('backend-protocol', `${JSON.stringify(text)} is not known; HTTP is used`);
  }
  return {
    protocol: protocol === 'HTTPS' ? 'https' : 'http',
    serviceAddress: reader.bool('service-upstream') ?? globals.serviceUpstream,
  };
}
