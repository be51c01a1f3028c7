// proxy-redirect-from and -to, proxy-cookie-domain, proxy-cookie-path: what of an answer speaks of the backend's own address.

import type { SettingReader } from './reader.ts';
import { parseTemplate, type Template, type TemplateRequest } from './template.ts';

export interface AnswerRewrite {
  /** How Location and Refresh begin, and what comes in the place of it. */
  readonly redirect: { readonly from: Template; readonly to: Template } | undefined;
  readonly cookieDomain: Pair | undefined;
  readonly cookiePath: Pair | undefined;
}

interface Pair {
  readonly from: string;
  readonly to: string;
}

const NONE: AnswerRewrite = { redirect: undefined, cookieDomain: undefined, cookiePath: undefined };

/** Annotations and ConfigMap keys have the same names; `off` takes away what the ConfigMap says. */
export function readAnswerRewrite(reader: SettingReader, base: AnswerRewrite = NONE): AnswerRewrite | undefined {
  const rewrite = {
    redirect: readRedirect(reader, base),
    cookieDomain: readPair(reader, 'proxy-cookie-domain', /^[A-Za-z0-9.-]+$/, base.cookieDomain),
    cookiePath: readPair(reader, 'proxy-cookie-path', /^[\u0021-\u003a\u003c-\u007e]+$/, base.cookiePath),
  };
  return rewrite.redirect || rewrite.cookieDomain || rewrite.cookiePath ? rewrite : undefined;
}

function readRedirect(reader: SettingReader, base: AnswerRewrite): AnswerRewrite['redirect'] {
  const from = reader.text('proxy-redirect-from');
  const to = reader.text('proxy-redirect-to');
  if (from === undefined && to === undefined) return base.redirect;
  // `default` is the address of nginx' own upstream, which no backend ever names.
  if (from === 'off' || from === 'default' || to === 'off') return undefined;
  const source = from === undefined ? base.redirect?.from : template(reader, 'proxy-redirect-from', from);
  const target = to === undefined ? base.redirect?.to : template(reader, 'proxy-redirect-to', to);
  if (source && target) return { from: source, to: target };
  const missing = from === undefined ? 'proxy-redirect-to' : 'proxy-redirect-from';
  return reader.ignored(missing, 'proxy-redirect-from and proxy-redirect-to belong together');
}

function template(reader: SettingReader, name: string, text: string): Template | undefined {
  if (text.startsWith('~')) return reader.ignored(name, 'expressions are not supported there; give how the URL begins');
  if (/\s/.test(text)) return reader.ignored(name, 'a URL holds no spaces');
  const parsed = parseTemplate(text);
  return parsed.kind === 'template'
    ? parsed.template
    : reader.ignored(name, `the variable $${parsed.variable} is not known`);
}

function readPair(reader: SettingReader, name: string, form: RegExp, base: Pair | undefined): Pair | undefined {
  const text = reader.text(name);
  if (text === undefined) return base;
  if (text === 'off') return undefined;
  const [from = '', to = '', ...rest] = text.split(/\s+/);
  if (form.test(from) && form.test(to) && rest.length === 0 && !from.startsWith('~')) return { from, to };
  return reader.ignored(
    name,
    `${JSON.stringify(text)} is not "off", or two words: what is there, and what comes instead`,
  );
}

/** Names of the answer's fields that may change, in lower case. */
export const REWRITTEN = ['location', 'refresh', 'set-cookie'];

/** What becomes of a value; undefined where it stays. */
export type Change = (name: string, value: string) => string | undefined;

/** What an answer to `request`, which is read now, is changed by. */
export function answerChange({ redirect, cookieDomain, cookiePath }: AnswerRewrite, request: TemplateRequest): Change {
  const from = redirect?.from.render(request);
  const to = redirect?.to
    .render(request)
    .replace(/[^\u0021-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed()));
  const moved = (url: string): string | undefined =>
    from !== undefined && to !== undefined && from !== '' && url.startsWith(from)
      ? to + url.slice(from.length)
      : undefined;
  return (name, value) => {
    if (name === 'location') return moved(value);
    if (name === 'refresh') {
      const url = /^([0-9]+\s*;\s*url\s*=\s*)(.*)$/i.exec(value);
      const other = url?.[2] === undefined ? undefined : moved(url[2]);
      return other === undefined ? undefined : `${url?.[1] ?? ''}${other}`;
    }
    return cookie(value, cookieDomain, cookiePath);
  };
}

/** RFC 6265 section 4.1: attributes after the pair, of any case. */
function cookie(value: string, domain: Pair | undefined, path: Pair | undefined): string | undefined {
  const [pair = '', ...attributes] = value.split(';');
  const bare = (text: string): string => text.replace(/^\./, '').toLowerCase();
  const changed = attributes.map((attribute) => {
    const match = /^(\s*(domain|path)\s*=\s*)(.*?)(\s*)$/i.exec(attribute);
    if (!match) return attribute;
    const [, lead = '', word = '', text = '', tail = ''] = match;
    if (word.toLowerCase() === 'domain')
      return domain && bare(text) === bare(domain.from) ? lead + domain.to + tail : attribute;
    return path && text.startsWith(path.from) ? lead + path.to + text.slice(path.from.length) + tail : attribute;
  });
  const text = [pair, ...changed].join(';');
  return text === value ? undefined : text;
}
