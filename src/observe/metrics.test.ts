import { expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';

test('a metric that is asked for twice is the same one, as when a plane is started again', async () => {
  const metrics = createMetrics();
  metrics.counter({ name: 'seen_total', help: 'x', labels: ['who'] }).add(1, { who: 'a' });
  metrics.counter({ name: 'seen_total', help: 'x', labels: ['who'] }).add(2, { who: 'a' });
  metrics.collected({ name: 'now', help: 'x', type: 'gauge', samples: () => [{ name: 'now', labels: {}, value: 1 }] });
  metrics.collected({ name: 'now', help: 'x', type: 'gauge', samples: () => [{ name: 'now', labels: {}, value: 2 }] });
  const text = await metrics.text();
  expect(text).toContain('seen_total{who="a"} 3');
  expect(text).toMatch(/^now 2$/m);
  expect(text.match(/# TYPE now gauge/g)).toHaveLength(1);
});
