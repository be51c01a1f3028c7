// Headers of a ConfigMap whose values may hold variables: proxy-set-headers, auth-proxy-set-headers.

import type { ConfigMapRecord } from '../../model/records.ts';
import { isFieldName } from './reader.ts';
import { parseTemplate, type Template, type TemplateRequest } from './template.ts';

export type HeaderTemplates =
  | {
      readonly kind: 'headers';
      readonly headers: readonly (readonly [string, Template])[];
      readonly names: readonly string[];
    }
  | { readonly kind: 'bad'; readonly reason: string };

const OWN = /^(host|content-length|transfer-encoding|connection|keep-alive|upgrade|trailer|te|expect|proxy-.*)$/i;

/** The content of the object is held to the same rules as an annotation (CVE-2025-15566). */
export function headerTemplates(map: ConfigMapRecord): HeaderTemplates {
  const headers: (readonly [string, Template])[] = [];
  for (const [name, value] of map.data) {
    if (!isFieldName(name) || OWN.test(name))
      return { kind: 'bad', reason: `${JSON.stringify(name)} is no header that can be set` };
    if (/[^\u0020-\u007e]/.test(value)) return { kind: 'bad', reason: `the value of ${name} is not one line of ASCII` };
    const parsed = parseTemplate(value);
    if (parsed.kind === 'unknown')
      return { kind: 'bad', reason: `${name}: the variable $${parsed.variable} is not known` };
    headers.push([name, parsed.template]);
  }
  return { kind: 'headers', headers, names: headers.map(([name]) => name.toLowerCase()) };
}

/** As lines; an empty value leaves its field out. */
export function renderHeaders(
  { headers }: Extract<HeaderTemplates, { readonly kind: 'headers' }>,
  request: TemplateRequest,
): string {
  return headers
    .map(
      ([name, template]) =>
        [
          name,
          template.render(request).replace(/[^\u0020-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed())),
        ] as const,
    )
    .map(([name, value]) => (value === '' ? '' : `${name}: ${value}\r\n`))
    .join('');
}
