// proxy-body-size, time-outs and retries: limits of one request.

import type { Rate } from '../http/throttle.ts';
import type { SettingReader } from './reader.ts';

export interface RetrySettings {
  /** Statuses of a backend that send the request to the next endpoint. */
  readonly statuses: ReadonlySet<number>;
  /** A connection that breaks before the answer, when the request was sent whole. */
  readonly onLost: boolean;
  readonly onTimeout: boolean;
  /** A backend that cannot be reached. */
  readonly onConnect: boolean;
  readonly nonIdempotent: boolean;
  readonly tries: number;
  /** Milliseconds from the start of the request within which another endpoint is tried; 0 is no bound. */
  readonly withinMs: number;
}

export interface TransferSettings {
  /** Bytes of a request body; 0 is no limit. */
  readonly maxBody: number;
  readonly connectMs: number;
  /** Until the answer begins, and between two reads of it. */
  readonly readMs: number;
  /** While the backend takes nothing of the request. */
  readonly sendMs: number;
  /** An upgraded connection on which nothing moves; nginx has one value for it and for reads. */
  readonly tunnelMs: number;
  readonly retry: RetrySettings;
  /** limit-rate and limit-rate-after; undefined without a limit. */
  readonly rate: Rate | undefined;
}

/** Annotations and ConfigMap keys have the same names; `base` is what applies where none is given. */
export function readTransfer(reader: SettingReader, base: TransferSettings): TransferSettings {
  const readMs = reader.seconds('proxy-read-timeout');
  return {
    maxBody: reader.size('proxy-body-size') ?? base.maxBody,
    connectMs: reader.seconds('proxy-connect-timeout') ?? base.connectMs,
    readMs: readMs ?? base.readMs,
    tunnelMs: readMs ?? base.tunnelMs,
    sendMs: reader.seconds('proxy-send-timeout') ?? base.sendMs,
    retry: readRetry(reader, base.retry),
    rate: readRate(reader, base.rate),
  };
}

/** In KB a second, and KB. As in nginx, 0 is no limit. */
function readRate(reader: SettingReader, base: Rate | undefined): Rate | undefined {
  const rate = reader.integer('limit-rate');
  const after = reader.integer('limit-rate-after');
  const perMs = rate === undefined ? (base?.perMs ?? 0) : (rate * 1024) / 1000;
  return perMs === 0 ? undefined : { perMs, free: after === undefined ? (base?.free ?? 0) : after * 1024 };
}

/** Conservative where nobody asks: only a connection that could not be made goes to another endpoint. */
export const DEFAULT_RETRY: RetrySettings = {
  statuses: new Set(),
  onLost: false,
  onTimeout: false,
  onConnect: true,
  nonIdempotent: false,
  tries: 3,
  withinMs: 0,
};

const STATUS = /^http_(500|502|503|504|403|404|429)$/;

function readRetry(reader: SettingReader, base: RetrySettings): RetrySettings {
  const words = reader.text('proxy-next-upstream')?.split(/\s+/);
  const tries = reader.integer('proxy-next-upstream-tries') ?? base.tries;
  const within = reader.integer('proxy-next-upstream-timeout');
  const bounds = {
    tries: tries === 0 ? Number.POSITIVE_INFINITY : tries,
    withinMs: within === undefined ? base.withinMs : within * 1000,
  };
  if (words === undefined) return { ...base, ...bounds };
  for (const word of words) {
    if (STATUS.test(word) || /^(error|timeout|non_idempotent|off)$/.test(word)) continue;
    if (word === 'invalid_header')
      reader.ignored('proxy-next-upstream', 'invalid_header: a malformed answer is never retried');
    else reader.ignored('proxy-next-upstream', `${JSON.stringify(word)} is not known`);
  }
  const off = words.includes('off');
  return {
    statuses: new Set(off ? [] : words.flatMap((word) => (STATUS.test(word) ? [Number(word.slice(5))] : []))),
    onLost: !off && words.includes('error'),
    onTimeout: !off && words.includes('timeout'),
    onConnect: !off,
    nonIdempotent: words.includes('non_idempotent'),
    ...bounds,
  };
}
