// One whole reading of a collection, page by page.

import type { ObjectKey } from '../../model/records.ts';
import type { Clock } from '../../system/clock.ts';
import { objectKey } from '../parse/metadata.ts';
import type { Kind, RecordOfKind } from '../store.ts';
import type { ApiConnection } from './connection.ts';
import { withDeadline } from './deadline.ts';
import { failureOf, thrownFailure, type ApiFailure } from './failure.ts';
import { fieldOf, parseJson, readRawObject, textOf } from './raw.ts';
import { collectionPath, type Resource, type Scope } from './resource.ts';

/** As client-go: pages bound the memory of both sides. */
const PAGE_LIMIT = 500;
/** For the whole of a page to arrive. */
const PAGE_MS = 60_000;

export type Listed<K extends Kind> =
  | {
      readonly kind: 'listed';
      readonly entries: ReadonlyMap<ObjectKey, RecordOfKind[K]>;
      /** Where a watch goes on. */
      readonly resourceVersion: string;
      readonly notices: readonly string[];
    }
  | ApiFailure;

export interface ListOptions {
  readonly connection: ApiConnection;
  readonly scope: Scope;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Reads the collection. Raw objects live no longer than their page. When the version that the pages are of is compacted
 * between two of them, the collection is read again in one piece: the token that such a 410 brings would go on at
 * another version, from which no watch can be begun.
 */
export async function listCollection<K extends Kind>(resource: Resource<K>, options: ListOptions): Promise<Listed<K>> {
  const paged = await listPages(resource, options, PAGE_LIMIT);
  return paged.kind === 'expired' ? listPages(resource, options, undefined) : paged;
}

async function listPages<K extends Kind>(
  resource: Resource<K>,
  options: ListOptions,
  limit: number | undefined,
): Promise<Listed<K>> {
  const entries = new Map<ObjectKey, RecordOfKind[K]>();
  const notices: string[] = [];
  const query: Record<string, string> = limit === undefined ? {} : { limit: String(limit) };
  for (;;) {
    const page = await readPage(resource, options, query);
    if (page.kind !== 'page') return page;
    for (const [key, record] of page.entries) if (record !== undefined) entries.set(key, record);
    notices.push(...page.notices);
    if (page.continueToken === undefined) {
      return { kind: 'listed', entries, resourceVersion: page.resourceVersion, notices };
    }
    query['continue'] = page.continueToken;
  }
}

interface Page<K extends Kind> {
  readonly kind: 'page';
  readonly entries: readonly (readonly [ObjectKey, RecordOfKind[K] | undefined])[];
  readonly notices: readonly string[];
  readonly resourceVersion: string;
  readonly continueToken: string | undefined;
}

async function readPage<K extends Kind>(
  resource: Resource<K>,
  options: ListOptions,
  query: Readonly<Record<string, string>>,
): Promise<Page<K> | ApiFailure> {
  const path = collectionPath(resource, options.scope, query);
  const { value, late } = await withDeadline(options.clock, PAGE_MS, options.signal, async (signal) => {
    try {
      const response = await options.connection.request({ path, headers: { Accept: 'application/json' }, signal });
      const body = await response.text();
      return response.status === 200 ? pageOf(resource, body) : failureOf(response, body);
    } catch (error) {
      return thrownFailure(error);
    }
  });
  if (value.kind !== 'aborted' || !late) return value;
  return { kind: 'unreachable', message: `the answer did not come to its end within ${PAGE_MS / 1000} s` };
}

function pageOf<K extends Kind>(resource: Resource<K>, body: string): Page<K> | ApiFailure {
  const list = parseJson(body);
  const metadata = fieldOf(list, 'metadata');
  const items = fieldOf(list, 'items') ?? [];
  const resourceVersion = textOf(metadata, 'resourceVersion');
  if (resourceVersion === undefined || !Array.isArray(items)) {
    return { kind: 'unreachable', message: 'the answer is no list of the Kubernetes API: is this an API server?' };
  }
  const entries: (readonly [ObjectKey, RecordOfKind[K] | undefined])[] = [];
  const notices: string[] = [];
  for (const item of items as readonly unknown[]) {
    const raw = readRawObject(item);
    const parsed = resource.parse(item);
    if (!raw || !parsed.ok) continue;
    const key = objectKey(raw.namespace, raw.name);
    entries.push([key, parsed.record]);
    for (const notice of parsed.notices) notices.push(`${key}: ${notice}`);
  }
  return {
    kind: 'page',
    entries,
    notices,
    resourceVersion,
    continueToken: textOf(metadata, 'continue') || undefined,
  };
}
