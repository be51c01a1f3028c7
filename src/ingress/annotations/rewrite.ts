// rewrite-target, use-regex, x-forwarded-prefix, upstream-vhost: what of the request the backend sees differently.

import { normalisePath } from '../path.ts';
import { isFieldName, type SettingReader } from './reader.ts';
import { parseTemplate, type Template } from './template.ts';

export interface RewriteSettings {
  /** With $1…$9 for the groups of the path. */
  readonly target: string | undefined;
  readonly useRegex: boolean;
  /** Sent only together with a target. */
  readonly forwardedPrefix: string | undefined;
  readonly vhost: Template | undefined;
}

export function readRewrite(reader: SettingReader): RewriteSettings {
  const target = reader.text('rewrite-target');
  const sane = target === undefined || /^[\u0021-\u007e]+$/.test(target);
  if (!sane) reader.denies('rewrite-target', 'a target holds neither spaces nor letters beyond ASCII');
  const prefix = reader.text('x-forwarded-prefix');
  const vhost = reader.text('upstream-vhost');
  const parsed = vhost === undefined ? undefined : parseTemplate(vhost);
  if (vhost !== undefined && (parsed?.kind === 'unknown' || !/^[A-Za-z0-9.:\-_[\]${}]+$/.test(vhost))) {
    reader.denies('upstream-vhost', `${JSON.stringify(vhost)} is no host name, or has a variable that is not known`);
  }
  return {
    target: sane ? target : undefined,
    useRegex: reader.bool('use-regex') ?? false,
    forwardedPrefix: target === undefined ? undefined : prefix,
    vhost: parsed?.kind === 'template' ? parsed.template : undefined,
  };
}

export type Rewritten =
  | { readonly kind: 'path'; readonly path: string; readonly query: string }
  | { readonly kind: 'redirect'; readonly url: string }
  | { readonly kind: 'bad' };

/** The target with the groups of the match put in. The result is normalised again, and refused with a dot segment in it. */
export function rewrite(target: string, groups: readonly string[], query: string): Rewritten {
  const text = target.replace(/\$(?:\{([0-9])\}|([0-9]))/g, (_, a: string | undefined, b: string | undefined) => {
    return groups[Number(a ?? b)] ?? '';
  });
  const mark = text.indexOf('?');
  const own = mark < 0 ? '' : text.slice(mark);
  // nginx: the arguments of the request follow those of the target, unless the target ends with `?`.
  const joined = own === '' ? query : own === '?' ? '' : query.length > 1 ? `${own}&${query.slice(1)}` : own;
  const front = mark < 0 ? text : text.slice(0, mark);
  if (/^https?:\/\//i.test(target)) return { kind: 'redirect', url: front + joined };
  // Groups that make a dot segment where the location was already chosen: matched one thing, asked for another.
  if (/\/\.{1,2}(?:\/|$)/.test(front)) return { kind: 'bad' };
  const path = normalisePath(front.startsWith('/') ? front : `/${front}`);
  return path === undefined ? { kind: 'bad' } : { kind: 'path', path, query: joined };
}

/** Names of a list annotation that are header names; the others are told of. */
export function fieldNames(reader: SettingReader, name: string): readonly string[] {
  return (reader.list(name) ?? []).filter((word) => {
    if (isFieldName(word)) return true;
    reader.ignored(name, `${JSON.stringify(word)} is no header name`);
    return false;
  });
}
