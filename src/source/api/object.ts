// One object read or written, with every way in which that can end as a value.

import { messageOf } from '../../lib/message-of.ts';
import type { ApiConnection } from './connection.ts';
import { fieldOf, parseJson, textOf } from './raw.ts';

export type ObjectAnswer =
  | { readonly kind: 'object'; readonly object: unknown }
  /** Another writer was first (409). */
  | { readonly kind: 'conflict' }
  | { readonly kind: 'missing' }
  /** The server said no: no right (403), or something that it does not take. */
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }
  | { readonly kind: 'unreachable'; readonly message: string };

export interface ObjectRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** With query. */
  readonly path: string;
  readonly object?: unknown;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 10_000;

/** Never rejects. */
export async function sendObject(connection: ApiConnection, request: ObjectRequest): Promise<ObjectAnswer> {
  const { method, path, object, signal, timeoutMs = TIMEOUT_MS } = request;
  const bound = AbortSignal.timeout(timeoutMs);
  try {
    const response = await connection.request({
      method,
      path,
      headers: { Accept: 'application/json', ...(object === undefined ? {} : { 'Content-Type': 'application/json' }) },
      ...(object === undefined ? {} : { body: JSON.stringify(object) }),
      signal: signal ? AbortSignal.any([signal, bound]) : bound,
    });
    const body = parseJson(await response.text());
    if (response.status < 300) return { kind: 'object', object: body };
    if (response.status === 409) return { kind: 'conflict' };
    if (response.status === 404) return { kind: 'missing' };
    return { kind: 'refused', status: response.status, message: textOf(body, 'message') ?? `HTTP ${response.status}` };
  } catch (error) {
    return { kind: 'unreachable', message: messageOf(error) };
  }
}

/** What a log says of an answer that is not the object. */
export function answerText(answer: ObjectAnswer): string {
  switch (answer.kind) {
    case 'object':
      return 'done';
    case 'conflict':
      return 'another writer was first';
    case 'missing':
      return 'it does not exist';
    case 'refused':
    case 'unreachable':
      return answer.message;
  }
}

/** `a.b.c` of an object; undefined when a part is not there. */
export function fieldAt(value: unknown, ...names: readonly string[]): unknown {
  let found = value;
  for (const name of names) found = fieldOf(found, name);
  return found;
}

export function listAt(value: unknown, ...names: readonly string[]): readonly unknown[] {
  const found = fieldAt(value, ...names);
  return Array.isArray(found) ? (found as readonly unknown[]) : [];
}
