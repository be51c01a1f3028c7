// Words of OpenSSL in annotations and in the ConfigMap: protocol versions and cipher lists.

import type { SettingReader } from './reader.ts';

export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';

export interface TlsVersions {
  readonly min: TlsVersion;
  readonly max: TlsVersion;
}

const VERSIONS: readonly TlsVersion[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

/** A list such as `TLSv1.2 TLSv1.3`; what lies between its ends counts too. SSLv2 and SSLv3 are not spoken by anyone here. */
export function readTlsVersions(reader: SettingReader, name: string): TlsVersions | undefined {
  const words = reader.text(name)?.split(/\s+/);
  if (words === undefined) return undefined;
  const known: TlsVersion[] = [];
  for (const word of words) {
    const version = VERSIONS.find((candidate) => candidate === word);
    if (version) known.push(version);
    else reader.ignored(name, `${JSON.stringify(word)} is none of ${VERSIONS.join(', ')}`);
  }
  known.sort((a, b) => VERSIONS.indexOf(a) - VERSIONS.indexOf(b));
  const [min] = known;
  const max = known.at(-1);
  return min && max ? { min, max } : undefined;
}

/** A cipher list in OpenSSL's words, for TLS up to 1.2. Whether OpenSSL knows them shows where it is used. */
export function readCipherList(reader: SettingReader, name: string): string | undefined {
  const text = reader.text(name);
  if (text === undefined || text === 'DEFAULT') return undefined;
  return /^[A-Za-z0-9:+!@=_.-]{1,2048}$/.test(text) ? text : reader.ignored(name, 'it is no cipher list of OpenSSL');
}
