// limit-connections, limit-rps, limit-rpm: per client address, counted for the whole Ingress.

import type { Cidr } from '../../lib/cidr.ts';
import type { SettingReader } from './reader.ts';

export interface LimitSettings {
  /** Requests at one time; 0 is no limit. */
  readonly connections: number;
  /** Requests a second and a minute; 0 is no limit. */
  readonly perSecond: number;
  readonly perMinute: number;
  readonly burstMultiplier: number;
  readonly exempt: readonly Cidr[];
}

export function readLimits(reader: SettingReader): LimitSettings | undefined {
  const connections = reader.integer('limit-connections') ?? 0;
  const perSecond = reader.integer('limit-rps') ?? 0;
  const perMinute = reader.integer('limit-rpm') ?? 0;
  const burst = reader.integer('limit-burst-multiplier') ?? 5;
  const alias = reader.ranges('limit-whitelist');
  const exempt = reader.ranges('limit-allowlist') ?? alias ?? [];
  if (connections + perSecond + perMinute === 0) return undefined;
  return { connections, perSecond, perMinute, burstMultiplier: burst > 0 ? burst : 5, exempt };
}
