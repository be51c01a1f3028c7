import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { clusterOf } from '../../../test/rules/cluster.ts';
import { LOCAL, expected, packetSettings, packets, tracedText, viewOf } from '../../../test/rules/packets.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import { silentLogger } from '../../observe/log.ts';
import { createMetrics } from '../../observe/metrics.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import { defaultRulesConfig, type RulesConfig } from '../config.ts';
import { IpvsBackend } from './apply.ts';
import { FakeIpvs } from './fake.ts';
import { trace } from './trace.ts';

const sent = fc.array(packets({ fromServices: false }), { minLength: 20, maxLength: 60 });

async function load(snapshot: Snapshot, config: RulesConfig): Promise<FakeIpvs> {
  const kernel = new FakeIpvs(LOCAL);
  const options = { config, exec: kernel, log: silentLogger, clock: new FakeClock(), metrics: createMetrics() };
  expect(await new IpvsBackend(options).sync(snapshot)).toMatchObject({ kind: 'applied' });
  return kernel;
}

test('packets sent through the kernel that a sync left fare as packet.ts says', async () => {
  await fc.assert(
    fc.asyncProperty(clusters, packetSettings, sent, async (sketches, settings, all) => {
      const { snapshot } = clusterOf(sketches);
      const config = { ...defaultRulesConfig, ...settings };
      const kernel = await load(snapshot, config);
      const view = viewOf(config, { mode: 'ipvs' });
      for (const packet of all) {
        const traced = tracedText(trace(kernel, packet, { localAddresses: LOCAL }));
        expect([packet, traced]).toEqual([packet, expected(snapshot, packet, view)]);
      }
    }),
    { numRuns: 250 },
  );
});
