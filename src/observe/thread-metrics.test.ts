import { expect, test } from 'vitest';
import { createTally, type Family } from './tally.ts';
import { ThreadMetrics } from './thread-metrics.ts';

async function counted(requests: number, open: number): Promise<readonly Family[]> {
  const tally = createTally();
  tally.counter({ name: 'requests_total', help: 'x' }).add(requests);
  tally.gauge({ name: 'open', help: 'x' }).set(open);
  return tally.families();
}

test('what a thread that is gone has counted stays; its levels go with it', async () => {
  const shown = createTally();
  const metrics = new ThreadMetrics(shown);
  const values = async (): Promise<unknown> =>
    Object.fromEntries((await shown.families()).map(({ name, samples }) => [name, samples[0]?.value]));
  metrics.show([await counted(3, 7), await counted(4, 2)]);
  expect(await values()).toEqual({ requests_total: 7, open: 7 });
  metrics.keep(await counted(3, 7));
  metrics.show([await counted(4, 2)]);
  expect(await values()).toEqual({ requests_total: 7, open: 2 });
  metrics.show([await counted(5, 2), await counted(1, 1)]);
  expect(await values()).toEqual({ requests_total: 9, open: 2 });
});
