import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

function text(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}

test('the oldest Node is the same wherever it is said', () => {
  const oldest = /"node": ">=([\d.]+)"/.exec(text('package.json'))?.[1];
  expect(oldest).toMatch(/^\d+\.\d+\.\d+$/);
  expect(text('src/cli/entry.js')).toContain(`const OLDEST = '${oldest}';`);
  expect(text('README.md')).toContain(`with Node ${oldest} or newer`);
});
