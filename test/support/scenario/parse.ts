// A scenario file: markdown with a fixed set of headings, so that it reads as documentation and runs as a test.

import { isMap, parseAllDocuments } from 'yaml';
import { parseSetting, type ScenarioSettings } from './settings.ts';
import type { RulesMode } from '../../../src/rules/backend.ts';

export const TABLES = {
  services: ['port', 'internal', 'external', 'left out'],
  packets: ['from', 'to', 'verdict', 'masquerade'],
  dns: ['name', 'type', 'rcode', 'answer'],
  http: ['request', 'status', 'to'],
} as const;

export type TableKind = keyof typeof TABLES;

export interface Row {
  /** 1-based line in the file. */
  readonly line: number;
  readonly cells: Readonly<Record<string, string>>;
}

export interface Table {
  readonly kind: TableKind;
  readonly rows: readonly Row[];
}

export interface YamlBlock {
  /** 1-based line of the block's first line in the file. */
  readonly line: number;
  readonly text: string;
}

/** What is applied and then holds. The first step is `## Given`. */
export interface Step {
  readonly apply: YamlBlock | undefined;
  readonly remove: readonly ObjectName[];
  readonly tables: readonly Table[];
}

export interface ObjectName {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

export interface Scenario {
  readonly file: string;
  readonly title: string;
  /** The modes of the rules that have this behaviour; undefined when all have. */
  readonly only: readonly RulesMode[] | undefined;
  /** What is configured otherwise than the world has it. */
  readonly settings: ScenarioSettings;
  readonly steps: readonly Step[];
  readonly nothingRemains: boolean;
}

export class ScenarioError extends Error {
  readonly code = 'SCENARIO';

  constructor(file: string, line: number, message: string) {
    super(`${file}:${line}: ${message}`);
  }
}

interface Section {
  readonly line: number;
  readonly heading: string;
  readonly body: readonly { readonly line: number; readonly text: string }[];
}

/** Reads a scenario. Unknown headings and columns, and sections that hold nothing, are errors with file and line. */
export function parseScenario(file: string, text: string): Scenario {
  const sections = split(file, text);
  const [title, ...rest] = sections;
  if (!title?.heading.startsWith('# ')) throw new ScenarioError(file, 1, 'a scenario begins with "# title"');
  const only = onlyOf(file, title);
  const settings = settingsOf(file, title);
  const steps: { apply: YamlBlock | undefined; remove: ObjectName[]; tables: Table[] }[] = [];
  let nothingRemains = false;
  for (const section of rest) {
    if (nothingRemains) throw new ScenarioError(file, section.line, '"## Finally nothing remains" comes last');
    const { heading, line } = section;
    if (heading === '## Given') {
      if (steps.length > 0) throw new ScenarioError(file, line, '"## Given" stands once, first');
      steps.push({ apply: yamlOf(file, section), remove: [], tables: [] });
    } else if (heading === '## When') {
      if (steps.length === 0) throw new ScenarioError(file, line, '"## When" needs a "## Given" before it');
      steps.push({ ...whenOf(file, section), tables: [] });
    } else if (heading.startsWith('## Then ')) {
      const step = steps.at(-1);
      if (!step) throw new ScenarioError(file, line, `"${heading}" needs a "## Given" before it`);
      step.tables.push(tableOf(file, section));
    } else if (heading === '## Finally nothing remains') {
      nothingRemains = true;
    } else {
      throw new ScenarioError(
        file,
        line,
        `unknown heading "${heading}"; there are: Given, When, Then services|packets|dns|http, Finally nothing remains`,
      );
    }
  }
  if (steps.length === 0) throw new ScenarioError(file, 1, 'a scenario has a "## Given"');
  if (!nothingRemains && steps.every(({ tables }) => tables.length === 0)) {
    throw new ScenarioError(file, 1, 'a scenario says what must be true: a "## Then" table');
  }
  return { file, title: title.heading.slice(2).trim(), only, settings, steps, nothingRemains };
}

const MODES: readonly RulesMode[] = ['nftables', 'iptables', 'ipvs', 'userspace'];

/** A line `Only: nftables, userspace` under the title: for what the modes do differently. */
function onlyOf(file: string, title: Section): readonly RulesMode[] | undefined {
  const found = title.body.find(({ text }) => /^only:/i.test(text));
  if (!found) return undefined;
  return found.text
    .slice('only:'.length)
    .split(',')
    .map((word) => {
      const mode = MODES.find((each) => each === word.trim());
      if (!mode)
        throw new ScenarioError(file, found.line, `"${word.trim()}" is no mode; there are: ${MODES.join(', ')}`);
      return mode;
    });
}

/** A line `Config: detectLocal none, masqueradeAll` under the title. */
function settingsOf(file: string, title: Section): ScenarioSettings {
  const found = title.body.find(({ text }) => /^config:/i.test(text));
  let settings: ScenarioSettings = {};
  for (const part of found?.text.slice('config:'.length).split(',') ?? []) {
    const setting = parseSetting(part);
    if (!found || !setting) throw new ScenarioError(file, found?.line ?? 1, `"${part.trim()}" is no setting`);
    settings = { ...settings, ...setting };
  }
  return settings;
}

function split(file: string, text: string): readonly Section[] {
  const sections: { line: number; heading: string; body: { line: number; text: string }[] }[] = [];
  let fenced = false;
  for (const [i, raw] of text.split(/\r?\n/).entries()) {
    const line = i + 1;
    if (raw.startsWith('```')) fenced = !fenced;
    if (!fenced && /^#{1,6} /.test(raw)) {
      sections.push({ line, heading: raw.trim().replace(/ +/g, ' '), body: [] });
    } else if (sections.length > 0) {
      sections.at(-1)?.body.push({ line, text: raw });
    } else if (raw.trim() !== '') {
      throw new ScenarioError(file, line, 'text before the title');
    }
  }
  if (fenced) throw new ScenarioError(file, text.split('\n').length, 'a ``` block is not closed');
  return sections;
}

function yamlOf(file: string, section: Section): YamlBlock {
  const open = section.body.findIndex(({ text }) => /^```(ya?ml)?\s*$/.test(text));
  const close = section.body.findIndex(({ text }, i) => i > open && text.startsWith('```'));
  if (open < 0 || close < 0)
    throw new ScenarioError(file, section.line, `"${section.heading}" holds a \`\`\`yaml block`);
  const inside = section.body.slice(open + 1, close);
  return { line: inside[0]?.line ?? section.line, text: inside.map(({ text }) => text).join('\n') };
}

/** A block of objects to apply, or one that holds nothing but `delete:` with a list of `Kind ns/name`. */
function whenOf(file: string, section: Section): { apply: YamlBlock | undefined; remove: ObjectName[] } {
  const block = yamlOf(file, section);
  const documents = parseAllDocuments(block.text);
  const first = Array.isArray(documents) ? documents[0] : undefined;
  if (!first || !isMap(first.contents) || !first.contents.has('delete')) return { apply: block, remove: [] };
  const value: unknown = first.toJS();
  const names = typeof value === 'object' && value !== null && 'delete' in value ? value.delete : undefined;
  if (!Array.isArray(names)) throw new ScenarioError(file, block.line, '`delete` is a list of `Kind namespace/name`');
  const remove = names.map((entry): ObjectName => {
    const match = /^(\w+) (?:([^/\s]+)\/)?([^/\s]+)$/.exec(String(entry));
    if (!match) throw new ScenarioError(file, block.line, `"${String(entry)}" is not \`Kind namespace/name\``);
    return { kind: match[1] ?? '', namespace: match[2] ?? '', name: match[3] ?? '' };
  });
  return { apply: undefined, remove };
}

function tableOf(file: string, section: Section): Table {
  const kind = section.heading.slice('## Then '.length);
  if (!isTableKind(kind)) {
    throw new ScenarioError(
      file,
      section.line,
      `unknown table "${kind}"; there are: ${Object.keys(TABLES).join(', ')}`,
    );
  }
  const lines = section.body.filter(({ text }) => text.trim().startsWith('|') || text.includes(' | '));
  const [head, rule, ...rest] = lines;
  if (!head || !rule || rest.length === 0)
    throw new ScenarioError(file, section.line, `"${section.heading}" holds a table`);
  const columns = cellsOf(head.text).map((column) => column.toLowerCase());
  const known: readonly string[] = TABLES[kind];
  for (const column of columns) {
    if (!known.includes(column)) {
      throw new ScenarioError(file, head.line, `unknown column "${column}"; ${kind} has: ${known.join(' | ')}`);
    }
  }
  const key = known[0] ?? '';
  if (!columns.includes(key)) throw new ScenarioError(file, head.line, `column "${key}" is missing`);
  if (columns.length < 2) throw new ScenarioError(file, head.line, `a table says something of each ${key}`);
  const rows = rest.map(({ line, text }): Row => {
    const cells = cellsOf(text);
    if (cells.length !== columns.length) {
      throw new ScenarioError(file, line, `${cells.length} cells for ${columns.length} columns`);
    }
    return { line, cells: Object.fromEntries(columns.map((column, i) => [column, cells[i] ?? ''])) };
  });
  return { kind, rows };
}

function isTableKind(kind: string): kind is TableKind {
  return Object.hasOwn(TABLES, kind);
}

function cellsOf(text: string): readonly string[] {
  return text
    .trim()
    .replace(/^\|/, '')
    .replace(/\|$/, '')
    .split('|')
    .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1'));
}
