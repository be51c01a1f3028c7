// allowlist-source-range (alias whitelist-source-range) and denylist-source-range.

import { cidrContains, type Cidr } from '../../lib/cidr.ts';
import { parseIp } from '../../lib/ip.ts';
import type { GlobalSettings } from '../global-settings.ts';
import type { SettingReader } from './reader.ts';

export interface AccessSettings {
  readonly allow: readonly Cidr[] | undefined;
  readonly deny: readonly Cidr[] | undefined;
}

export function readAccess(reader: SettingReader, globals: GlobalSettings): AccessSettings {
  const alias = reader.ranges('whitelist-source-range');
  return {
    allow: reader.ranges('allowlist-source-range') ?? alias ?? globals.allow,
    deny: reader.ranges('denylist-source-range') ?? globals.deny,
  };
}

/** The deny list first, then the allow list, with which all others are shut out. */
export function mayEnter(access: AccessSettings, address: string): boolean {
  if (!access.allow && !access.deny) return true;
  const ip = parseIp(address);
  if (!ip) return false;
  if (access.deny?.some((range) => cidrContains(range, ip))) return false;
  return access.allow?.some((range) => cidrContains(range, ip)) ?? true;
}
