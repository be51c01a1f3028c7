// Why a request gave nothing: the `Status` of the API, or what came instead of one.

import { HttpClientError, type HttpResponse } from '../../system/http-client.ts';
import { SourceError } from '../source-error.ts';
import { fieldOf, parseJson, textOf } from './raw.ts';

export type ApiFailure =
  /** Stopped on our own account. */
  | { readonly kind: 'aborted' }
  /** The resourceVersion or the continue token is too old. */
  | { readonly kind: 'expired' }
  | { readonly kind: 'forbidden'; readonly message: string }
  | { readonly kind: 'unauthorized'; readonly message: string }
  /** This server does not have the group, version or resource. */
  | { readonly kind: 'not-served' }
  /** No answer, or a broken one. */
  | { readonly kind: 'unreachable'; readonly message: string }
  /** An answer that is an error. */
  | {
      readonly kind: 'refused';
      readonly code: number;
      readonly message: string;
      readonly retryAfterMs: number | undefined;
    };

/** The failure that a response other than 200 tells. */
export function failureOf(response: HttpResponse, body: string): ApiFailure {
  const status = parseJson(body);
  const isStatus = textOf(status, 'kind') === 'Status';
  // An API group that is not served is answered in plain text.
  if (response.status === 404) return { kind: 'not-served' };
  const retryAfter = Number(response.headers['retry-after']);
  const message = (isStatus ? textOf(status, 'message') : body.trim().slice(0, 200)) ?? '';
  return statusFailure(isStatus ? status : undefined, response.status, message, secondsToMs(retryAfter));
}

/** The failure that a `Status` tells, from a response or from an `ERROR` event of a watch. */
export function statusFailure(
  status: unknown,
  httpCode: number | undefined,
  message = textOf(status, 'message') ?? 'no message',
  retryAfterMs?: number,
): ApiFailure {
  const given = fieldOf(status, 'code');
  const code = typeof given === 'number' ? given : (httpCode ?? 0);
  if (code === 410) return { kind: 'expired' };
  if (code === 401) return { kind: 'unauthorized', message };
  if (code === 403) return { kind: 'forbidden', message };
  const details = fieldOf(fieldOf(status, 'details'), 'retryAfterSeconds');
  const after = retryAfterMs ?? (typeof details === 'number' ? secondsToMs(details) : undefined);
  return { kind: 'refused', code, message, retryAfterMs: after };
}

/** The failure that an exception of a request tells; anything unforeseen is thrown on. */
export function thrownFailure(error: unknown): ApiFailure {
  if (error instanceof SourceError) return { kind: 'unauthorized', message: error.message };
  if (!(error instanceof HttpClientError)) throw error;
  return error.code === 'aborted' ? { kind: 'aborted' } : { kind: 'unreachable', message: error.message };
}

export function describeFailure(failure: ApiFailure): string {
  switch (failure.kind) {
    case 'aborted':
      return 'stopped';
    case 'expired':
      return 'the resourceVersion is too old';
    case 'not-served':
      return 'not served by this API server';
    case 'forbidden':
    case 'unauthorized':
    case 'unreachable':
      return failure.message;
    case 'refused':
      return `${failure.code} ${failure.message}`.trim();
  }
}

/** Retry-After has whole seconds here; absurd values are cut to a minute. */
function secondsToMs(seconds: number): number | undefined {
  return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 60) * 1000 : undefined;
}
