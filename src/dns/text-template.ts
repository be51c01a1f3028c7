// The part of Go's text templates that Corefiles use: `{{ .Name }}`, `{{ .Group.a }}`, `{{ index .Match 1 }}`.

/** What a template may name; `group` by name or number. */
export interface TemplateFields {
  readonly fields: ReadonlyMap<string, string>;
  readonly match: readonly string[];
  readonly group: ReadonlyMap<string, string>;
}

/** A template with its parts found; undefined with the part that is not understood. */
export type Template =
  | { readonly kind: 'template'; readonly render: (fields: TemplateFields) => string }
  | { readonly kind: 'unknown'; readonly part: string };

type Part = (fields: TemplateFields) => string;

export function parseTemplate(text: string): Template {
  const parts: Part[] = [];
  let at = 0;
  for (const found of text.matchAll(/\{\{(-?)\s*(.*?)\s*(-?)\}\}/gs)) {
    const [whole, trimBefore, expression = '', trimAfter] = found;
    const part = trimBefore || trimAfter ? undefined : partOf(expression);
    if (!part) return { kind: 'unknown', part: whole };
    const literal = text.slice(at, found.index);
    parts.push(() => literal, part);
    at = found.index + whole.length;
  }
  const rest = text.slice(at);
  if (rest.includes('{{')) return { kind: 'unknown', part: rest };
  parts.push(() => rest);
  return { kind: 'template', render: (fields) => parts.map((part) => part(fields)).join('') };
}

const FIELDS: ReadonlySet<string> = new Set(['Name', 'Zone', 'Type', 'Class', 'Remote']);

function partOf(expression: string): Part | undefined {
  const field = /^\.([A-Za-z]+)$/.exec(expression)?.[1];
  if (field !== undefined && FIELDS.has(field)) return ({ fields }) => fields.get(field) ?? '';
  const group = /^\.Group\.([A-Za-z0-9_]+)$/.exec(expression)?.[1] ?? /^index \.Group "([^"]*)"$/.exec(expression)?.[1];
  if (group !== undefined) return (fields) => fields.group.get(group) ?? '';
  const match = /^index \.Match ([0-9]+)$/.exec(expression)?.[1];
  if (match !== undefined) return (fields) => fields.match[Number(match)] ?? '';
  return undefined;
}
