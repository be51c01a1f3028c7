import { expect, test } from 'vitest';
import { createTally, sumOf } from './tally.ts';

test('counts of several threads add up; of levels the highest stands, unless they add up too', async () => {
  const threads = [1, 2].map((n) => {
    const tally = createTally();
    tally.counter({ name: 'seen_total', help: 'x', labels: ['who'] }).add(n, { who: 'a' });
    tally.gauge({ name: 'enabled', help: 'x' }).set(1);
    tally.histogram({ name: 'took', help: 'x', buckets: [1, 2] }).observe(n);
    const samples = () => [{ name: 'entries', labels: {}, value: n }];
    tally.collected({ name: 'entries', help: 'x', type: 'gauge', addsUp: true, samples });
    let late = 0;
    tally.beforeText('batches', () => void (late = 10));
    tally.collected({
      name: 'late_total',
      help: 'x',
      type: 'counter',
      samples: () => [{ name: 'late_total', labels: {}, value: late }],
    });
    return tally;
  });
  const families = sumOf(await Promise.all(threads.map((tally) => tally.families())));
  const values = Object.fromEntries(
    families.flatMap(({ samples }) => samples.map(({ name, labels, value }) => [name + JSON.stringify(labels), value])),
  );
  expect(values).toEqual({
    'seen_total{"who":"a"}': 3,
    'enabled{}': 1,
    'took_bucket{"le":"1"}': 1,
    'took_bucket{"le":"2"}': 2,
    'took_bucket{"le":"+Inf"}': 2,
    'took_sum{}': 3,
    'took_count{}': 2,
    'entries{}': 3,
    'late_total{}': 20,
  });
});
