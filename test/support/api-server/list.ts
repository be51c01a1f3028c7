// Answers to lists: pages at a fixed version, and what is refused.

import { copy, type Json } from './json.ts';
import { apiVersionOf, type Target } from './resource-table.ts';
import { parseSelectors } from './selector.ts';
import { badRequest, badVersion, expiredContinue, expiredList, tooLarge, type Refusal } from './status.ts';
import type { Storage } from './storage.ts';

export type Answer = { readonly code: number; readonly body: Json } | Refusal;

interface Position {
  readonly revision: number;
  /** The key before which nothing is given any more. */
  readonly start: string;
}

export function answerList(storage: Storage, target: Target, query: URLSearchParams): Answer {
  const { resource } = target;
  const selector = parseSelectors(resource, query);
  if (selector.kind === 'unsupported') return badRequest(selector.message);
  const position = positionOf(storage, query);
  if ('code' in position) return position;
  // A revision of -1 is that of a token given with a 410: go on with what is there now.
  const revision = position.revision < 0 ? storage.revision : position.revision;
  const objects = storage.at(resource, revision);
  if (!objects) {
    return query.get('continue') ? expiredContinue(encodeToken(-1, position.start.slice(1))) : expiredList();
  }
  const selective = query.has('labelSelector') || query.has('fieldSelector');
  const found = [...objects.entries()]
    .map(([key, object]): readonly [string, Json] => [`/${key}`, object])
    .filter(([key, object]) => inNamespace(key, target) && selector.selects(object) && key >= position.start)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  // Answers from the cache know no pages.
  const limit = query.get('resourceVersion') === '0' ? 0 : Number(query.get('limit') ?? 0);
  const page = limit > 0 ? found.slice(0, limit) : found;
  const last = page.at(-1);
  const more = last !== undefined && page.length < found.length;
  return {
    code: 200,
    body: {
      kind: `${resource.kind}List`,
      apiVersion: apiVersionOf(resource),
      metadata: {
        resourceVersion: String(revision),
        ...(more ? { continue: encodeToken(revision, `${last[0]}\0`) } : {}),
        ...(more && !selective ? { remainingItemCount: found.length - page.length } : {}),
      },
      items: page.map(([, object]) => item(object)),
    },
  };
}

export function inNamespace(key: string, { resource, namespace }: Target): boolean {
  return !resource.namespaced || namespace === '' || key.startsWith(`/${namespace}/`);
}

/** Items carry no kind and apiVersion of their own. */
function item(object: Json): Json {
  const { kind: _kind, apiVersion: _version, ...rest } = copy(object);
  return rest;
}

function positionOf(storage: Storage, query: URLSearchParams): Position | Refusal {
  const token = query.get('continue');
  if (token) return decodeToken(token);
  const version = query.get('resourceVersion') ?? '';
  if (version === '' || version === '0') return { revision: storage.revision, start: '' };
  if (!/^[0-9]+$/.test(version)) return badVersion(version);
  const wanted = Number(version);
  if (wanted > storage.revision) return tooLarge(wanted, storage.revision);
  const exact = query.get('resourceVersionMatch') === 'Exact';
  return { revision: exact ? wanted : storage.revision, start: '' };
}

function encodeToken(revision: number, start: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: revision, start })).toString('base64url');
}

function decodeToken(token: string): Position | Refusal {
  try {
    const value: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (typeof value === 'object' && value !== null && 'rv' in value && 'start' in value) {
      const start = String(value.start);
      return { revision: Number(value.rv), start: start.startsWith('/') ? start : `/${start}` };
    }
  } catch {
    // Told below.
  }
  return badRequest(
    'invalid continue token: continue key is not valid: invalid character looking for beginning of value',
  );
}
