// What every kind reads of `metadata`, and the rules for names that the API server has.

import type { ObjectKey } from '../../model/records.ts';
import type { Field } from './reader.ts';

export interface Metadata {
  /** `default` when a namespaced object gives none; empty for a kind without namespaces. */
  readonly namespace: string;
  readonly name: string;
}

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const LABEL_PATTERN = new RegExp(`^${LABEL}$`);
const SUBDOMAIN_PATTERN = new RegExp(`^${LABEL}(\\.${LABEL})*$`);

/** RFC 1123 label, as names of Services and namespaces are. */
export function isLabel(text: string): boolean {
  return text.length <= 63 && LABEL_PATTERN.test(text);
}

/** RFC 1123 subdomain: labels joined by dots, 253 characters at most. */
export function isSubdomain(text: string): boolean {
  return text.length <= 253 && SUBDOMAIN_PATTERN.test(text);
}

export const LABEL_RULE =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with " +
  "an alphanumeric character (e.g. 'my-name' or '123-abc'), 63 characters at most";

export const SUBDOMAIN_RULE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and " +
  "end with an alphanumeric character (e.g. 'example.com')";

export function objectKey(namespace: string, name: string): ObjectKey {
  return namespace === '' ? name : `${namespace}/${name}`;
}

/** Namespace and name, or undefined (with an error) without a usable name. */
export function readMetadata(root: Field, scope: 'namespaced' | 'cluster'): Metadata | undefined {
  const metadata = root.get('metadata');
  const nameField = metadata.get('name');
  const name = nameField.text();
  if (name === undefined || name === '') {
    nameField.refuse('Required value: an object needs a name');
    return undefined;
  }
  if (nameField.strict && !isSubdomain(name)) nameField.invalid(SUBDOMAIN_RULE);
  if (scope === 'cluster') return { namespace: '', name };
  const namespaceField = metadata.get('namespace');
  const namespace = namespaceField.text() ?? 'default';
  if (namespaceField.strict && !isLabel(namespace)) namespaceField.invalid(LABEL_RULE);
  return { namespace, name };
}

export function readLabels(root: Field): ReadonlyMap<string, string> {
  return root.get('metadata').get('labels').textMap();
}

/** One annotation, without reading the others. */
export function readAnnotation(root: Field, name: string): string | undefined {
  return root.get('metadata').get('annotations').get(name).text();
}

/** Written by kubectl, Helm and the API server for themselves; the first is as large as its object. */
const OF_TOOLS = /^(?:kubectl\.kubernetes\.io|meta\.helm\.sh|kubernetes\.io)\//;

/** The annotations but those that tools keep for themselves. */
export function readAnnotations(root: Field): ReadonlyMap<string, string> {
  const fields = root.get('metadata').get('annotations').fields();
  return new Map(
    fields.flatMap(([name, field]) => {
      const value = OF_TOOLS.test(name) ? undefined : field.text();
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
}
