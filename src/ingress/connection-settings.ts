// ConfigMap keys of connections: how long clients and endpoints are waited for between requests, and how many requests a connection carries.

import type { SettingReader } from './annotations/reader.ts';

export interface ConnectionSettings {
  /** `client-header-timeout`: for a whole request head. Milliseconds, as all of them; undefined: as the process was started. */
  readonly headMs?: number;
  /** `client-body-timeout`: between two reads of a body, or while a client takes nothing. */
  readonly clientMs?: number;
  /** `keep-alive`: between two requests; 0 ends a connection after each. */
  readonly keepAliveMs?: number;
  /** `keep-alive-requests`. */
  readonly maxRequests?: number;
  /** `upstream-keepalive-timeout`. */
  readonly upstreamIdleMs?: number;
  /** `upstream-keepalive-connections`: for each endpoint; 0 keeps none. */
  readonly maxIdle?: number;
  /** `upstream-keepalive-time` and `upstream-keepalive-requests`. */
  readonly upstreamAgeMs?: number;
  readonly upstreamRequests?: number;
  /** `worker-shutdown-timeout`: how long a stop waits for what is under way. */
  readonly graceMs?: number;
}

export function readConnections(reader: SettingReader): ConnectionSettings {
  const keepAlive = reader.integer('keep-alive', 86_400);
  const headMs = reader.seconds('client-header-timeout');
  const clientMs = reader.seconds('client-body-timeout');
  const maxRequests = reader.integer('keep-alive-requests');
  const upstreamIdleMs = reader.seconds('upstream-keepalive-timeout');
  const maxIdle = reader.integer('upstream-keepalive-connections');
  const upstreamAgeMs = reader.time('upstream-keepalive-time');
  const upstreamRequests = reader.integer('upstream-keepalive-requests');
  const graceMs = reader.time('worker-shutdown-timeout');
  return {
    ...(graceMs === undefined ? {} : { graceMs }),
    ...(headMs === undefined ? {} : { headMs }),
    ...(clientMs === undefined ? {} : { clientMs }),
    ...(keepAlive === undefined ? {} : { keepAliveMs: keepAlive * 1000 }),
    ...(keepAlive === 0
      ? { maxRequests: 1 }
      : maxRequests === undefined
        ? {}
        : { maxRequests: Math.max(1, maxRequests) }),
    ...(upstreamIdleMs === undefined ? {} : { upstreamIdleMs }),
    ...(maxIdle === undefined ? {} : { maxIdle }),
    ...(upstreamAgeMs === undefined ? {} : { upstreamAgeMs }),
    ...(upstreamRequests === undefined ? {} : { upstreamRequests: Math.max(1, upstreamRequests) }),
  };
}

/** Keys of the ports that are passed on as they are. */
export interface StreamKeys {
  /** `proxy-stream-timeout`. */
  readonly idleMs?: number;
  /** `proxy-stream-responses`. */
  readonly responses?: number;
}

export function readStreamKeys(reader: SettingReader): StreamKeys {
  const idleMs = reader.time('proxy-stream-timeout');
  const responses = reader.integer('proxy-stream-responses');
  return {
    ...(idleMs === undefined || idleMs === 0 ? {} : { idleMs }),
    ...(responses === undefined ? {} : { responses }),
  };
}
