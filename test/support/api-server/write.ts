// Creating, replacing, patching and deleting.

import { admit, admitNew, type Writing } from './admission.ts';
import { copy, ensure, isJson, text, child, type Json } from './json.ts';
import type { Answer } from './list.ts';
import { jsonPatch, mergePatch } from './patch.ts';
import { apiVersionOf, type Target } from './resource-table.ts';
import {
  alreadyExists,
  badRequest,
  conflict,
  methodNotAllowed,
  notFound,
  unprocessable,
  unsupportedMediaType,
  type Refusal,
} from './status.ts';
import type { Storage } from './storage.ts';

export interface WriteRequest {
  readonly target: Target;
  readonly contentType: string;
  readonly body: string;
}

export function objectKeyOf(target: Target, name: string): string {
  return target.resource.namespaced ? `${target.namespace}/${name}` : name;
}

export function create(request: WriteRequest, storage: Storage, writing: Writing): Answer {
  const { target } = request;
  const object = readObject(request);
  if (isRefusal(object)) return object;
  const refusal = admitNew(object, target.namespace, writing);
  const name = text(child(object, 'metadata'), 'name') ?? '';
  const key = objectKeyOf(target, name);
  // A name that is taken is told before anything else about the object.
  if (name !== '' && storage.current(target.resource).has(key)) return alreadyExists(target.resource, name);
  return refusal ?? { code: 201, body: storage.put(target.resource, key, object) };
}

export function replace(request: WriteRequest, name: string, storage: Storage, writing: Writing): Answer {
  const object = readObject(request);
  if (isRefusal(object)) return object;
  const own = text(child(object, 'metadata'), 'name');
  if (own !== name) {
    return badRequest(`the name of the object (${own ?? ''}) does not match the name on the URL (${name})`);
  }
  return store(request.target, name, storage, writing, () => object);
}

const PATCH_TYPES = 'application/json-patch+json, application/merge-patch+json';

export function patch(request: WriteRequest, name: string, storage: Storage, writing: Writing): Answer {
  const type = request.contentType.split(';')[0]?.trim();
  if (type !== 'application/merge-patch+json' && type !== 'application/json-patch+json') {
    return unsupportedMediaType(PATCH_TYPES);
  }
  const change = parse(request.body);
  return store(request.target, name, storage, writing, (current) => {
    if (type === 'application/json-patch+json') return jsonPatch(current, change) ?? unprocessable();
    return isJson(change) ? mergePatch(current, change) : badRequest('json: cannot unmarshal into an object');
  });
}

export function remove(target: Target, name: string, storage: Storage): Answer {
  const object = storage.delete(target.resource, objectKeyOf(target, name));
  if (!object) return notFound(target.resource, name);
  if (target.resource.deleteAnswersObject) return { code: 200, body: object };
  const details = { name, group: target.resource.group, kind: target.resource.plural };
  return { code: 200, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details } };
}

/** Replaces the object, or its status alone; a resourceVersion that is given has to be the current one. */
function store(
  target: Target,
  name: string,
  storage: Storage,
  writing: Writing,
  change: (current: Json) => Json | Refusal,
): Answer {
  const { resource, subresource } = target;
  if (subresource !== undefined && !(subresource === 'status' && resource.status)) return methodNotAllowed();
  const key = objectKeyOf(target, name);
  const current = storage.current(resource).get(key);
  if (!current) return notFound(resource, name);
  const changed = change(copy(current));
  if (isRefusal(changed)) return changed;
  const version = text(child(changed, 'metadata'), 'resourceVersion');
  if (version && version !== text(child(current, 'metadata'), 'resourceVersion')) return conflict(resource, name);
  const next =
    subresource === 'status'
      ? { ...copy(current), status: changed['status'] ?? {} }
      : keepStatus(changed, current, target);
  const metadata = ensure(next, 'metadata');
  const old = child(current, 'metadata');
  for (const field of ['uid', 'creationTimestamp', 'namespace', 'name'])
    if (old[field] !== undefined) metadata[field] = old[field];
  metadata['resourceVersion'] = old['resourceVersion'];
  const refusal = admit(next, writing);
  if (refusal) return refusal;
  // What changes nothing makes no new version.
  if (JSON.stringify(next) === JSON.stringify(current)) return { code: 200, body: current };
  return { code: 200, body: storage.put(resource, key, next) };
}

/** A write of the object leaves a status that has a subresource of its own as it is. */
function keepStatus(changed: Json, current: Json, { resource }: Target): Json {
  if (!resource.status || current['status'] === undefined) return changed;
  return { ...changed, status: current['status'] };
}

const BODY_TYPES = 'application/json, application/yaml, application/vnd.kubernetes.protobuf';

function readObject(request: WriteRequest): Json | Refusal {
  const { resource } = request.target;
  if (request.contentType !== '' && !request.contentType.startsWith('application/json'))
    return unsupportedMediaType(BODY_TYPES);
  const object = parse(request.body);
  if (!isJson(object)) {
    return badRequest(
      `the object provided is unrecognized (must be of type ${resource.kind}): couldn't get version/kind; json parse error: invalid character (${request.body.slice(0, 40)})`,
    );
  }
  const version = text(object, 'apiVersion') ?? apiVersionOf(resource);
  const kind = text(object, 'kind') ?? resource.kind;
  if (version === apiVersionOf(resource) && kind === resource.kind) return object;
  return badRequest(
    `the API version in the data (${version}) does not match the expected API version (${apiVersionOf(resource)})`,
  );
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body) as unknown;
  } catch {
    return undefined;
  }
}

function isRefusal(value: Json | Refusal): value is Refusal {
  return typeof value['code'] === 'number' && isJson(value['body']);
}
