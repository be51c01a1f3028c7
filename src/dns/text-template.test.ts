import { expect, test } from 'vitest';
import { parseTemplate, TemplateError } from './text-template.ts';

const KNOWN = new Set(['Name', 'Match', 'Group', 'Var', 'Question']);
const FIELDS = {
  fields: new Map<string, string | readonly string[] | ReadonlyMap<string, string | number>>([
    ['Name', 'a.example.'],
    ['Match', ['a.example.', 'a']],
    [
      'Group',
      new Map([
        ['1', 'ff'],
        ['b', '0a'],
      ]),
    ],
    ['Var', new Map([['n', 3]])],
    ['Question', new Map([['Qtype', 1]])],
  ]),
  meta: (label: string) => (label === 'view/name' ? 'ten' : ''),
};

function rendered(text: string): string {
  const parsed = parseTemplate(text, KNOWN);
  return parsed.kind === 'unknown' ? `unknown: ${parsed.part}` : parsed.render(FIELDS);
}

test.each([
  ['{{ .Name }} 60 IN A 1.2.3.4', 'a.example. 60 IN A 1.2.3.4'],
  ['{{.Name}}{{ index .Match 1 }}{{ .Group.b }}{{ index .Group "1" }}', 'a.example.a0aff'],
  ['{{ parseInt .Group.b 16 8 }}.{{ .Var.n }}', '10.3'],
  ['{{ printf "%03d-%s-%x" .Var.n .Name 255 }}', '003-a.example.-ff'],
  ['{{ .Name | printf "%q" }}', '"a.example."'],
  ['{{ (index .Match 0) | len }}', '10'],
  ['{{ .Meta "view/name" }}{{ .Question.Qtype }}', 'ten1'],
  ['{{ if eq .Name "b." }}x{{ else if gt .Var.n 2 }}y{{ else }}z{{ end }}', 'y'],
  ['{{ if and .Name (not .Var.m) }}yes{{ end }}', 'yes'],
  ['a {{- " b " -}} c', 'a b c'],
  ['{{/* nothing */}}x {{ "}}" }}', 'x }}'],
  ['{{ .Group.none }}{{ .Var.none }}', '<no value>'],
])('%s makes %s', (text, made) => {
  expect(rendered(text)).toBe(made);
});

test.each([
  ['{{ .Nosuch }}', 'unknown: {{ .Nosuch }}'],
  ['{{ range .Match }}x{{ end }}', 'unknown: {{ range .Match }}'],
  ['{{ if .Name }}x', 'unknown: {{ if .Name }}'],
  ['{{ nosuch 1 }}', 'unknown: {{ nosuch 1 }}'],
  ['a {{ .Name | (', 'unknown: {{ .Name | ('],
])('%s is not understood', (text, why) => {
  expect(rendered(text)).toContain(why.slice(0, 20));
});

test.each(['{{ index .Match 7 }}', '{{ parseInt .Name 10 8 }}', '{{ parseInt .Group.b 16 3 }}', '{{ lt .Name 1 }}'])(
  '%s cannot be worked out for this question',
  (text) => {
    expect(() => rendered(text)).toThrow(TemplateError);
  },
);
