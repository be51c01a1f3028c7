// `Status` bodies, in the words of the real server.

import type { Json } from './json.ts';
import { qualified, qualifiedKind, type ServedResource } from './resource-table.ts';

export interface Refusal {
  readonly code: number;
  readonly body: Json;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Failure {
  readonly code: number;
  readonly reason?: string;
  readonly message: string;
  readonly details?: Json;
  readonly metadata?: Json;
}

export function status({ code, reason, message, details, metadata }: Failure): Json {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: metadata ?? {},
    status: 'Failure',
    message,
    ...(reason === undefined ? {} : { reason }),
    ...(details === undefined ? {} : { details }),
    code,
  };
}

function refusal(failure: Failure, headers?: Readonly<Record<string, string>>): Refusal {
  return { code: failure.code, body: status(failure), ...(headers ? { headers } : {}) };
}

function detailsOf(resource: ServedResource, name?: string): Json {
  return {
    ...(name === undefined ? {} : { name }),
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind: resource.plural,
  };
}

export const unauthorized = (): Refusal => refusal({ code: 401, reason: 'Unauthorized', message: 'Unauthorized' });

export function forbidden(
  resource: ServedResource,
  access: { user: string; verb: string; namespace: string; name: string | undefined; subresource: string | undefined },
): Refusal {
  const object = access.name === undefined ? '' : ` "${access.name}"`;
  const plural = access.subresource === undefined ? resource.plural : `${resource.plural}/${access.subresource}`;
  const scope = access.namespace === '' ? 'at the cluster scope' : `in the namespace "${access.namespace}"`;
  const message = `${qualified(resource)}${object} is forbidden: User "${access.user}" cannot ${access.verb} resource "${plural}" in API group "${resource.group}" ${scope}`;
  return refusal({ code: 403, reason: 'Forbidden', message, details: detailsOf(resource, access.name) });
}

export const notFound = (resource: ServedResource, name: string): Refusal =>
  refusal({
    code: 404,
    reason: 'NotFound',
    message: `${qualified(resource)} "${name}" not found`,
    details: detailsOf(resource, name),
  });

export const noResource = (): Refusal =>
  refusal({
    code: 404,
    reason: 'NotFound',
    message: 'the server could not find the requested resource',
    details: {},
  });

export const alreadyExists = (resource: ServedResource, name: string): Refusal =>
  refusal({
    code: 409,
    reason: 'AlreadyExists',
    message: `${qualified(resource)} "${name}" already exists`,
    details: detailsOf(resource, name),
  });

export const conflict = (resource: ServedResource, name: string): Refusal =>
  refusal({
    code: 409,
    reason: 'Conflict',
    message: `Operation cannot be fulfilled on ${qualified(resource)} "${name}": the object has been modified; please apply your changes to the latest version and try again`,
    details: detailsOf(resource, name),
  });

export interface Cause {
  readonly field: string;
  readonly message: string;
}

const CAUSE_REASONS: readonly (readonly [string, string])[] = [
  ['Required value', 'FieldValueRequired'],
  ['Invalid value', 'FieldValueInvalid'],
  ['Duplicate value', 'FieldValueDuplicate'],
  ['Unsupported value', 'FieldValueNotSupported'],
  ['Forbidden', 'FieldValueForbidden'],
];

export function invalid(resource: ServedResource, name: string, causes: readonly Cause[]): Refusal {
  const texts = causes.map(({ field, message }) => `${field}: ${message}`);
  const what = texts.length === 1 ? texts.join('') : `[${texts.join(', ')}]`;
  return refusal({
    code: 422,
    reason: 'Invalid',
    message: `${qualifiedKind(resource)} "${name}" is invalid: ${what}`,
    details: {
      name,
      ...(resource.group === '' ? {} : { group: resource.group }),
      kind: resource.kind,
      causes: causes.map(({ field, message }) => ({
        reason: CAUSE_REASONS.find(([prefix]) => message.startsWith(prefix))?.[1] ?? 'FieldValueInvalid',
        message,
        field,
      })),
    },
  });
}

export const badRequest = (message: string): Refusal => refusal({ code: 400, reason: 'BadRequest', message });

/** A patch that cannot be applied. */
export const unprocessable = (): Refusal =>
  refusal({
    code: 422,
    reason: 'Invalid',
    message: 'the server rejected our request due to an error in our request',
    details: {},
  });

export const unsupportedMediaType = (accepted: string): Refusal =>
  refusal({
    code: 415,
    reason: 'UnsupportedMediaType',
    message: `the body of the request was in an unknown format - accepted media types include: ${accepted}`,
  });

export const notAcceptable = (): Refusal =>
  refusal({
    code: 406,
    reason: 'NotAcceptable',
    message: '406: Not Acceptable\n\nAvailable representations: application/json, application/json;stream=watch',
    details: {},
  });

export const methodNotAllowed = (): Refusal =>
  refusal({
    code: 405,
    reason: 'MethodNotAllowed',
    message: 'the server does not allow this method on the requested resource',
    details: {},
  });

export const tooLarge = (version: number, current: number): Refusal =>
  refusal(
    {
      code: 504,
      reason: 'Timeout',
      message: `Timeout: Too large resource version: ${version}, current: ${current}`,
      details: {
        causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
        retryAfterSeconds: 1,
      },
    },
    { 'Retry-After': '1' },
  );

export const expiredList = (): Refusal =>
  refusal({
    code: 410,
    reason: 'Expired',
    message: 'The resourceVersion for the provided list is too old.',
  });

export const expiredContinue = (token: string): Refusal =>
  refusal({
    code: 410,
    reason: 'Expired',
    metadata: { continue: token },
    message:
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results.',
  });

export const expiredWatch = (version: number, oldest: number): Json =>
  status({ code: 410, reason: 'Expired', message: `too old resource version: ${version} (${oldest})` });

/** A resourceVersion that is no number, as a watch answers it: 500, without a reason. */
export const badVersion = (version: string): Refusal =>
  refusal({
    code: 500,
    message: `resourceVersion: Invalid value: ${JSON.stringify(version)}: strconv.ParseUint: parsing ${JSON.stringify(version)}: invalid syntax`,
  });

export const initialEventsNeedMatch = (): Refusal =>
  refusal({
    code: 422,
    reason: 'Invalid',
    message:
      'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
    details: { group: 'meta.k8s.io', kind: 'ListOptions' },
  });
