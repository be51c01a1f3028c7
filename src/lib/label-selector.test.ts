import { expect, test } from 'vitest';
import { parseLabelSelector, selects } from './label-selector.ts';

const LABELS = new Map([
  ['tier', 'front'],
  ['app.kubernetes.io/name', 'web'],
]);

test.each([
  ['tier=front', true],
  ['tier==back', false],
  ['tier != back', true],
  ['nosuch!=x', true],
  ['tier in (front, back),app.kubernetes.io/name=web', true],
  ['tier notin (front)', false],
  ['tier', true],
  ['!tier', false],
  ['!nosuch', true],
  ['nosuch', false],
])('%s selects: %s', (text, value) => {
  const selector = parseLabelSelector(text);
  expect(selector && selects(selector, LABELS)).toBe(value);
});

test.each(['', 'a=b=c', 'a in', 'a in (', 'a,,b', '-a=b', 'a=b c', 'a=-'])('%j is no selector', (text) => {
  expect(parseLabelSelector(text)).toBeUndefined();
});
