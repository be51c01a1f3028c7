// What settings put into answers: fields, and pages in the place of errors. Pure.

import type { ErrorPages, Forward, Passed } from './forward.ts';
import type { EndpointPool } from './upstream.ts';

const NO_STATUS: ReadonlySet<number> = new Set();

/** The lines that an answer of this status gets beside its own. */
export function answerFields(
  { edit, lines }: Forward,
  passed: Passed | undefined,
  endpoint: EndpointPool | undefined,
  status: number,
): string {
  const cookies = passed && (status < 400 || passed.cookiesAlways) ? passed.cookies : '';
  const onStatus = edit?.statusFields?.(status) ?? '';
  const own = edit?.endpointField && endpoint ? edit.endpointField(endpoint) : '';
  return (edit?.answerFields ?? '') + own + onStatus + (lines?.fields ?? '') + cookies;
}

/** Where the page that stands in for an answer of this status is asked for, once and with no page for errors of its own; undefined where none is to be had. */
export function errorPage(
  forward: Forward | undefined,
  status: number,
): { readonly forward: Forward; readonly pages: ErrorPages } | undefined {
  if (!forward?.errors?.codes.has(status) || forward.errors.targets.targets.length === 0) return undefined;
  const { errors: pages, ...rest } = forward;
  const retry = { ...rest.transfer.retry, statuses: NO_STATUS, onLost: false, onTimeout: false };
  return { forward: { ...rest, targets: pages.targets, transfer: { ...rest.transfer, retry } }, pages };
}
