import { expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';

test('what was seen many times in one step counts as often, in its bucket and in sum and count', async () => {
  const metrics = createMetrics();
  const seconds = metrics.histogram({ name: 'took_seconds', help: 'x', labels: ['who'], buckets: [0.1, 1] });
  seconds.observe(0.1, { who: 'a' }, 3);
  seconds.observe(0.5, { who: 'a' });
  seconds.observe(7, { who: 'a' });
  const text = await metrics.text();
  expect(text).toContain('# TYPE took_seconds histogram');
  expect(text).toContain('took_seconds_bucket{le="0.1",who="a"} 3');
  expect(text).toContain('took_seconds_bucket{le="1",who="a"} 4');
  expect(text).toContain('took_seconds_bucket{le="+Inf",who="a"} 5');
  expect(text).toContain('took_seconds_sum{who="a"} 7.8');
  expect(text).toContain('took_seconds_count{who="a"} 5');
});

test('who counts in batches is called before the metrics are given', async () => {
  const metrics = createMetrics();
  const seen = metrics.counter({ name: 'seen_total', help: 'x' });
  metrics.beforeText('batches', () => seen.add(5));
  expect(await metrics.text()).toContain('seen_total 5');
});
