import { expect, test } from 'vitest';
import { EventBudget } from './event-budget.ts';

test('the same Event is sent again after ten minutes at the earliest', () => {
  const budget = new EventBudget();
  expect(budget.take('Ingress a/b', 'x', 0)).toBe(true);
  expect(budget.take('Ingress a/b', 'x', 599_999)).toBe(false);
  expect(budget.take('Ingress a/c', 'x', 1)).toBe(true);
  expect(budget.take('Ingress a/b', 'x', 600_000)).toBe(true);
});

test('one object has 25 Events at once, then one in five minutes', () => {
  const budget = new EventBudget();
  const taken = Array.from({ length: 100 }, (_, i) => budget.take('Ingress a/b', `note ${i}`, 0));
  expect(taken.filter(Boolean)).toHaveLength(25);
  expect(budget.take('Ingress a/b', 'later', 299_999)).toBe(false);
  expect(budget.take('Ingress a/b', 'later', 300_000)).toBe(true);
});
