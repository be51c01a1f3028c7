import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { FLAGS } from '../../src/cli/flags.ts';

const CLI = fileURLToPath(new URL('../../src/cli', import.meta.url));

test('every flag is read by the code, or the help says that it has no effect', () => {
  const texts = readdirSync(CLI, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts') && !/^[\w-]*flags\.ts$/.test(file))
    .map((file) => readFileSync(join(CLI, file), 'utf8'));
  const unread = FLAGS.filter(
    ({ name, withoutEffect }) => withoutEffect !== true && !texts.some((text) => text.includes(`'${name}'`)),
  );
  expect(unread.map(({ name }) => name)).toEqual([]);
  expect(FLAGS.length).toBeGreaterThan(150);
});
