import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const readmes = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('README.md') && !file.includes('node_modules/') && !file.startsWith('.'),
);

/** Files as a README names them: `path/file.ts` in backquotes, or a relative link. */
function namedFiles(text: string): readonly string[] {
  const quoted = [...text.matchAll(/`([\w@./-]+\.(?:ts|md|json|yaml|yml))`/g)].map((match) => match[1] ?? '');
  const linked = [...text.matchAll(/\]\((?!https?:|#)([^)\s#]+)/g)].map((match) => match[1] ?? '');
  return [...new Set([...quoted, ...linked])];
}

function exists(readme: string, named: string): boolean {
  const places = [join(ROOT, dirname(readme), named), join(ROOT, named), join(ROOT, 'src', named)];
  return places.some((place) => existsSync(place));
}

test('every README names files that exist', () => {
  const missing = readmes.flatMap((readme) =>
    namedFiles(readFileSync(join(ROOT, readme), 'utf8'))
      .filter((named) => !exists(readme, named))
      .map((named) => `${readme} names ${named}`),
  );
  expect(missing).toEqual([]);
});

test('every source file is named in a README of its folder, or its folder is', () => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[jt]s$/.test(file) && !file.endsWith('.test.ts'))
    .map((file) => `src/${file}`);
  const unnamed = sources.filter((file) => {
    const above = readmes.filter((readme) => file.startsWith(`${dirname(readme)}/`));
    const nearest = above.sort((a, b) => b.length - a.length)[0];
    if (nearest === undefined) return true;
    const text = readFileSync(join(ROOT, nearest), 'utf8');
    const path = file.slice(dirname(nearest).length + 1);
    return ![path, basename(path), `${dirname(path)}/`].some((name) => text.includes(`\`${name}\``));
  });
  expect(unnamed).toEqual([]);
  expect(sources.length).toBeGreaterThan(300);
});

test('every folder of substance has a README', () => {
  const folders = readdirSync(join(ROOT, 'src')).filter((name) => statSync(join(ROOT, 'src', name)).isDirectory());
  const without = folders.filter((folder) => !existsSync(join(ROOT, 'src', folder, 'README.md')));
  expect(without).toEqual([]);
  expect(readmes.length).toBeGreaterThan(5);
});

test('the top level holds what the architecture names, and nothing else', () => {
  const allowed = new Set(
    'package.json package-lock.json tsconfig.json src deploy test README.md LICENSE CHANGELOG.md node_modules'.split(
      ' ',
    ),
  );
  const others = readdirSync(ROOT).filter((name) => !name.startsWith('.') && !allowed.has(name));
  expect(others).toEqual([]);
});
