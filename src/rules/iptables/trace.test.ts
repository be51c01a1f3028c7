import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { clusterOf } from '../../../test/rules/cluster.ts';
import { LOCAL, expected, packetSettings, packets, tracedText, viewOf } from '../../../test/rules/packets.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import { defaultRulesConfig, type RulesConfig } from '../config.ts';
import { emptyTables, restore, type FakeTables } from './fake.ts';
import { renderIptables } from './render.ts';
import { trace } from './trace.ts';

const sent = fc.array(packets({ fromServices: true }), { minLength: 20, maxLength: 60 });

function load(snapshot: Snapshot, config: RulesConfig): Readonly<Record<4 | 6, FakeTables>> {
  const tables = { 4: emptyTables(), 6: emptyTables() };
  const [, four = '', six = ''] = renderIptables(snapshot, config).split(/^# .*\n/m);
  restore(tables[4], four);
  restore(tables[6], six);
  return tables;
}

test('packets walked through the rendered chains fare as packet.ts says', () => {
  fc.assert(
    fc.property(clusters, packetSettings, sent, (sketches, settings, all) => {
      const { snapshot } = clusterOf(sketches);
      const config = { ...defaultRulesConfig, ...settings };
      const tables = load(snapshot, config);
      const view = viewOf(config, { mode: 'iptables' });
      for (const packet of all) {
        const traced = tracedText(trace(tables, packet, { localAddresses: LOCAL }));
        expect([packet, traced]).toEqual([packet, expected(snapshot, packet, view)]);
      }
    }),
    { numRuns: 300 },
  );
});
