import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { normalisePath, normaliseRulePath } from './path.ts';

test.each([
  ['/', '/'],
  ['/a/b', '/a/b'],
  ['//a///b//', '/a/b/'],
  ['/a/./b/.', '/a/b/'],
  ['/a/b/..', '/a/'],
  ['/a/../b', '/b'],
  ['/.well-known/x', '/.well-known/x'],
  ['/a/..b/c', '/a/..b/c'],
  ['/%41%7e%2d', '/A~-'],
  ['/a%2fb', '/a%2Fb'],
  ['/a%20b', '/a%20b'],
  ['/%2e%2E/a', undefined],
  ['/..', undefined],
  ['/a/../..', undefined],
  ['/a/..%2fb', undefined],
  ['/a%5c..', undefined],
  ['/%00', undefined],
  ['/%', undefined],
  ['/%4', undefined],
  ['/%zz', undefined],
])('%s in a request is %s', (raw, expected) => {
  expect(normalisePath(raw)).toBe(expected);
});

test.each([
  ['/café au lait', '/caf%C3%A9%20au%20lait'],
  ['/a?b#c', '/a%3Fb%23c'],
  ['/100%', '/100%25'],
  ['/a/../b', '/b'],
  ['/bla{alias /x;}', '/bla{alias%20/x;}'],
  ['no-slash', undefined],
])('%s in a rule is %s', (raw, expected) => {
  expect(normaliseRulePath(raw)).toBe(expected);
});

test('the normal form is its own normal form and holds no dot segment', () => {
  const piece = fc.constantFrom('a', '.', '..', '/', '%2e', '%2F', '%41', '%', 'é', '\\', '%5c', ' ');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (parts) => {
      const normal = normalisePath(`/${parts.join('')}`);
      if (normal === undefined) return;
      expect(normalisePath(normal)).toBe(normal);
      expect(normal.split('/')).not.toContain('..');
      expect(normal).not.toMatch(/\/\//);
    }),
    { numRuns: 2000 },
  );
});
