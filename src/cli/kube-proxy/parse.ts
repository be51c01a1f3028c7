// The text of a KubeProxyConfiguration file → a configuration, or everything that is wrong in it with file and line. Pure.

import { nearestName } from '../../lib/edit-distance.ts';
import { parseYamlDocuments } from '../../source/manifests/yaml-documents.ts';
import { isRecord } from './field.ts';
import {
  API_VERSION,
  KIND,
  LEAVES,
  SCHEMA,
  configurationOf,
  isLeaf,
  type AnySection,
  type FieldPath,
  type KubeProxyConfiguration,
} from './schema.ts';
import { validate } from './validate.ts';

export type ParsedConfiguration =
  | {
      readonly kind: 'configuration';
      readonly configuration: KubeProxyConfiguration;
      /** Fields that the file sets to something else than nothing. */
      readonly set: ReadonlySet<FieldPath>;
    }
  /** One line each: `config.conf:12: iptables.masqueradBit: unknown field; did you mean masqueradeBit?` */
  | { readonly kind: 'wrong'; readonly problems: readonly string[] };

interface At {
  readonly keys: readonly string[];
  readonly message: string;
}

export function parseConfiguration(file: string, text: string): ParsedConfiguration {
  const { documents, errors } = parseYamlDocuments(file, text);
  if (errors.length > 0)
    return wrong(errors.map(({ line, message }) => `${file}:${line}: ${syntax(text, line, message)}`));
  const [document, second] = documents;
  if (!document) return wrong([`${file}:1: empty; a KubeProxyConfiguration is needed: apiVersion: ${API_VERSION}`]);
  if (second) return wrong([`${file}:${second.line}: a second document; the file holds one KubeProxyConfiguration`]);
  const place = ({ keys, message }: At): string => {
    const line = document.lineOf?.(keys) ?? document.line;
    return `${file}:${line}: ${keys.length === 0 ? '' : `${keys.join('.')}: `}${message}`;
  };
  const { object } = document;
  if (!isRecord(object))
    return wrong([place({ keys: [], message: 'not an object; a KubeProxyConfiguration is needed' })]);
  const { apiVersion, kind, ...fields } = object;
  if (kind !== KIND) return wrong([place({ keys: ['kind'], message: `must be ${KIND}, not ${show(kind)}` })]);
  if (apiVersion !== API_VERSION) {
    return wrong([place({ keys: ['apiVersion'], message: `must be ${API_VERSION}, not ${show(apiVersion)}` })]);
  }
  const values = new Map<FieldPath, unknown>();
  const problems = [...readSection(fields, SCHEMA as unknown as AnySection, [], values)];
  if (problems.length > 0) return wrong(problems.map(place));
  const configuration = configurationOf(values);
  const invalid = validate(configuration).map(({ path, message }) => place({ keys: path.split('.'), message }));
  return invalid.length > 0 ? wrong(invalid) : { kind: 'configuration', configuration, set: new Set(values.keys()) };
}

function* readSection(
  fields: Readonly<Record<string, unknown>>,
  section: AnySection,
  above: readonly string[],
  values: Map<FieldPath, unknown>,
): Generator<At> {
  for (const [name, value] of Object.entries(fields)) {
    const keys = [...above, name];
    const node = Object.hasOwn(section, name) ? section[name] : undefined;
    if (!node) {
      yield { keys, message: `unknown field${hint(name, section)}` };
      continue;
    }
    if (value === null) continue;
    if (!isLeaf(node)) {
      if (isRecord(value)) yield* readSection(value, node, keys, values);
      else yield { keys, message: `must be an object, not ${show(value)}` };
      continue;
    }
    const read = node.read(value);
    if (read === undefined) yield { keys, message: `must be ${node.wants}, not ${show(value)}` };
    else if (!node.isUnset(read)) values.set(keys.join('.'), read);
  }
}

/** The nearest name beside it, or else where a field of this very name stands. */
function hint(name: string, section: AnySection): string {
  const near = nearestName(name, Object.keys(section));
  if (near !== undefined) return `; did you mean ${near}?`;
  const elsewhere = [...LEAVES.keys()].filter((path) => path.endsWith(`.${name}`) || path === name);
  return elsewhere.length === 0 ? '' : `; it stands at ${elsewhere.join(' and ')}`;
}

/** YAML's own words for a field that stands twice do not name it. */
function syntax(text: string, line: number, message: string): string {
  if (!message.includes('Map keys must be unique')) return message;
  const name = /^\s*(?:-\s+)?["']?([\w-]+)/.exec(text.split('\n')[line - 1] ?? '')?.[1] ?? 'a field';
  return `${name}: the field stands twice; remove one`;
}

function show(value: unknown): string {
  const shown = JSON.stringify(value) ?? 'nothing';
  return shown.length <= 60 ? shown : `${shown.slice(0, 60)}…`;
}

function wrong(problems: readonly string[]): ParsedConfiguration {
  return { kind: 'wrong', problems };
}
