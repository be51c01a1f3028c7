// Text of a manifest file to objects with positions. JSON is YAML, and is read the same way.

import { isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseAllDocuments, type Document } from 'yaml';
import { messageOf } from '../../lib/message-of.ts';
import type { FieldKey } from '../parse/reader.ts';
import type { ManifestMessage, SourceDocument } from './document.ts';

export interface ReadDocuments {
  readonly documents: readonly SourceDocument[];
  /** Syntax errors; the documents that have none are given all the same. */
  readonly errors: readonly ManifestMessage[];
}

/** Parses every document of a text. `firstLine` is the line of the file at which the text starts. Never throws. */
export function parseYamlDocuments(file: string, text: string, firstLine = 1): ReadDocuments {
  const counter = new LineCounter();
  const lineAt = (offset: number): number => counter.linePos(offset).line + firstLine - 1;
  const documents: SourceDocument[] = [];
  const errors: ManifestMessage[] = [];
  const again = new WeakTree(text);
  for (const [index, document] of parseText(text, counter).entries()) {
    if (document.errors.length > 0) {
      for (const error of document.errors) {
        errors.push({ file, line: lineAt(error.pos[0]), message: `not valid YAML: ${error.message}` });
      }
      continue;
    }
    const line = lineAt(document.contents?.range?.[0] ?? 0);
    let object: unknown;
    try {
      object = document.toJS();
    } catch (error) {
      // Aliases that would expand without bound, or to nothing.
      errors.push({ file, line, message: `not valid YAML: ${messageOf(error)}` });
      continue;
    }
    if (object === null || object === undefined) continue;
    documents.push({ file, line, object, lineOf: lineFinder(again, index, document, lineAt) });
  }
  return { documents, errors };
}

function parseText(text: string, lineCounter?: LineCounter): readonly Document[] {
  const parsed = parseAllDocuments(text, {
    ...(lineCounter ? { lineCounter } : {}),
    prettyErrors: false,
    merge: true,
    logLevel: 'silent',
  });
  return Array.isArray(parsed) ? parsed : [];
}

/**
 * Finds the line of a field when an error asks for it. The syntax tree takes ten times the memory of the text (45 MB for 1,000 Services with 10
 * endpoints each) and is hardly ever asked for, so it is let go, and made again if it has to be.
 */
function lineFinder(
  again: WeakTree,
  index: number,
  document: Document,
  lineAt: (offset: number) => number,
): (keys: readonly FieldKey[]) => number {
  const tree = new WeakRef(document);
  return (keys) => {
    const found = tree.deref() ?? again.documents()[index];
    return lineAt(found ? offsetOf(found, keys) : 0);
  };
}

/** The syntax tree of a text, made when it is asked for and let go soon after: a hundred questions in one go make it once. */
class WeakTree {
  readonly #text: string;
  #documents: WeakRef<readonly Document[]> | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  documents(): readonly Document[] {
    const known = this.#documents?.deref();
    if (known) return known;
    const documents = parseText(this.#text);
    this.#documents = new WeakRef(documents);
    return documents;
  }
}

/** Offset of the field, or of the deepest field on the way to it that exists. */
function offsetOf(document: Document, keys: readonly FieldKey[]): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0] ?? 0;
  for (const key of keys) {
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(key),
      );
      if (!pair) break;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      next = pair.value;
    } else if (isSeq(node) && typeof key === 'number') {
      next = node.items[key];
      if (isNode(next)) offset = next.range?.[0] ?? offset;
    }
    if (next === undefined || next === null) break;
    node = next;
  }
  return offset;
}
