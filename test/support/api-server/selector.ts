// Label and field selectors of lists and watches.

import { child, text, type Json } from './json.ts';
import type { ServedResource } from './resource-table.ts';

export type Selects = (object: Json) => boolean;

export type ParsedSelector =
  | { readonly kind: 'selects'; readonly selects: Selects }
  | { readonly kind: 'unsupported'; readonly message: string };

/** Fields beside `metadata.name` and `metadata.namespace` that a resource can be selected by. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  services: ['spec.clusterIP', 'spec.type'],
  pods: ['spec.nodeName', 'status.phase', 'status.podIP'],
  secrets: ['type'],
};

/** The selectors of a request, together. */
export function parseSelectors(resource: ServedResource, query: URLSearchParams): ParsedSelector {
  const parts = [
    ...splitTerms(query.get('labelSelector') ?? '').map(labelTerm),
    ...splitTerms(query.get('fieldSelector') ?? '').map((term) => fieldTerm(resource, term)),
  ];
  const all: Selects[] = [];
  for (const part of parts) {
    if (part.kind === 'unsupported') return part;
    all.push(part.selects);
  }
  return { kind: 'selects', selects: (object) => all.every((selects) => selects(object)) };
}

/** At commas that are outside parentheses. */
function splitTerms(selector: string): readonly string[] {
  const terms = selector.match(/(?:[^,(]|\([^)]*\))+/g) ?? [];
  return terms.map((term) => term.trim()).filter((term) => term !== '');
}

function labelTerm(term: string): ParsedSelector {
  const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
  if (set) {
    const [, key = '', operator, values = ''] = set;
    const wanted = values.split(',').map((value) => value.trim());
    return onLabel(
      key,
      (value) => wanted.includes(value ?? '') === (operator === 'in') && (operator !== 'in' || value !== undefined),
    );
  }
  const compared = /^([^\s=!]+)\s*(=|==|!=)\s*(\S*)$/.exec(term);
  if (compared) {
    const [, key = '', operator, wanted = ''] = compared;
    return onLabel(key, (value) => (operator === '!=' ? value !== wanted : value === wanted));
  }
  if (/^!\S+$/.test(term)) return onLabel(term.slice(1), (value) => value === undefined);
  if (/^[^\s=!(]+$/.test(term)) return onLabel(term, (value) => value !== undefined);
  return { kind: 'unsupported', message: `unable to parse requirement: ${term}` };
}

function onLabel(key: string, test: (value: string | undefined) => boolean): ParsedSelector {
  return { kind: 'selects', selects: (object) => test(text(child(child(object, 'metadata'), 'labels'), key)) };
}

function fieldTerm(resource: ServedResource, term: string): ParsedSelector {
  const compared = /^([^=!]+)(=|==|!=)(.*)$/.exec(term);
  const [, field = term, operator = '=', wanted = ''] = compared ?? [];
  const allowed = [
    'metadata.name',
    ...(resource.namespaced ? ['metadata.namespace'] : []),
    ...(FIELDS[resource.plural] ?? []),
  ];
  if (!compared || !allowed.includes(field))
    return { kind: 'unsupported', message: `field label not supported: ${field}` };
  const keys = field.split('.');
  const last = keys.pop() ?? '';
  return {
    kind: 'selects',
    selects: (object) => {
      const value = text(keys.reduce(child, object), last) ?? '';
      return operator === '!=' ? value !== wanted : value === wanted;
    },
  };
}
