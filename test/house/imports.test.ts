import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

/** What each folder may import of ours. `type:` means types only. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  system: ['lib'],
  observe: ['lib', 'system'],
  model: ['lib'],
  source: ['lib', 'system', 'observe', 'type:model'],
  rules: ['model', 'lib', 'system', 'observe'],
  dns: ['model', 'lib', 'system', 'observe'],
  ingress: ['model', 'lib', 'system', 'observe'],
  status: ['type:model', 'type:rules', 'type:dns', 'type:ingress', 'lib'],
  cli: ['lib', 'system', 'observe', 'model', 'source', 'rules', 'dns', 'ingress', 'status'],
};

/** Modules that reach out of the process. Only `system` has them, and the two data paths in files named for it. */
const DOORS =
  /^(node:)?(child_process|fs|fs\/promises|net|tls|dgram|http|https|http2|worker_threads|timers|timers\/promises|cluster)$/;
const DATA_PATH = /^(dns|ingress)\/.*(listener|forward|upgrade|worker|upstream|connection|dial|tls)[^/]*\.ts$/;
/** What the data path may open: sockets, not files or children. */
const DATA_PATH_DOORS = /^(node:)?(net|tls|dgram|http2|worker_threads)$/;

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

function sourceFiles(): readonly string[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.ts') && !file.endsWith('.test.ts'),
  );
}

function importsOf(file: string): readonly Import[] {
  const text = readFileSync(join(SRC, file), 'utf8');
  const found = text.matchAll(/^(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|import\('([^']+)'\)/gms);
  return [...found].map((match) => ({
    file,
    specifier: match[2] ?? match[3] ?? '',
    typeOnly: match[1] !== undefined,
  }));
}

const allImports = sourceFiles().flatMap(importsOf);

test('each folder imports only the folders that the architecture lets it see', () => {
  const broken = allImports.flatMap(({ file, specifier, typeOnly }) => {
    if (!specifier.startsWith('.') || specifier.endsWith('.json')) return [];
    const from = file.split('/')[0] ?? '';
    const to = relative(SRC, normalize(join(SRC, dirname(file), specifier))).split('/')[0] ?? '';
    const allowed = ALLOWED[from];
    if (!allowed) return [`${file}: folder ${from} has no rule`];
    if (from === to || allowed.includes(to) || (typeOnly && allowed.includes(`type:${to}`))) return [];
    return [`${file} imports ${specifier}${allowed.includes(`type:${to}`) ? ' (types only are allowed)' : ''}`];
  });
  expect(broken).toEqual([]);
});

test('only system opens files, sockets, children and timers, and the two data paths their sockets', () => {
  const broken = allImports
    .filter(({ file, specifier, typeOnly }) => {
      if (typeOnly || file.startsWith('system/') || !DOORS.test(specifier)) return false;
      return !(DATA_PATH.test(file) && DATA_PATH_DOORS.test(specifier));
    })
    .map(({ file, specifier }) => `${file} imports ${specifier}`);
  expect(broken).toEqual([]);
});

test('only system and the data paths set timers', () => {
  const broken = sourceFiles().filter((file) => {
    if (file.startsWith('system/') || DATA_PATH.test(file)) return false;
    return /\b(setTimeout|setInterval)\(/.test(readFileSync(join(SRC, file), 'utf8'));
  });
  expect(broken).toEqual([]);
});

test('the rules hold something: the folders of the architecture are there', () => {
  const folders = new Set(sourceFiles().map((file) => file.split('/')[0] ?? ''));
  expect(folders).toEqual(new Set(Object.keys(ALLOWED)));
  expect(allImports.length).toBeGreaterThan(100);
});
