import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { clusters } from '../../../test/rules/arbitrary.ts';
import { CONFIG, clusterOf } from '../../../test/rules/cluster.ts';
import { LOCAL, expected, packetSettings, packets, tracedText, viewOf } from '../../../test/rules/packets.ts';
import { NftTextError } from './grammar.ts';
import { renderNftables } from './render.ts';
import { loadRuleset, trace } from './trace.ts';
import { cidr } from '../../../test/support/values.ts';

const SERVICE_CIDRS = [cidr('172.30.0.0/16'), cidr('172.30.0.0/24'), cidr('fd00:10:96::/112'), cidr('192.168.7.7/32')];
const sent = fc.array(packets({ fromServices: true }), { minLength: 10, maxLength: 30 });

test('every packet fares in the rendered text as the rules say it should', () => {
  fc.assert(
    fc.property(clusters, packetSettings, sent, (services, settings, all) => {
      const snapshot = { ...clusterOf(services).snapshot, serviceCIDRs: SERVICE_CIDRS };
      const config = { ...CONFIG, ...settings };
      const ruleset = loadRuleset(renderNftables(snapshot, config));
      const view = viewOf(config, { unallocated: SERVICE_CIDRS });
      for (const packet of all) {
        const traced = tracedText(trace(ruleset, packet, { localAddresses: LOCAL }));
        expect([packet, traced]).toEqual([packet, expected(snapshot, packet, view)]);
      }
    }),
    { numRuns: 250 },
  );
});

test('what is not ours to write is an error', () => {
  const { snapshot } = clusterOf([{ name: 'a', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]);
  const text = renderNftables(snapshot, CONFIG);
  for (const [from, to] of [
    ['ct state new jump', 'ct state established jump'],
    ['masquerade fully-random', 'masquerade persistent'],
    ['1 : goto pick-1,', '1 : goto pick-2,'],
    ['map @endpoints', 'map @endings'],
    ['10.0.0.1 . 80,', 'fd00::1 . 80,'],
    ['table ip fairlead', 'table inet fairlead'],
  ] as const) {
    expect(() => loadRuleset(text.replace(from, to))).toThrow(NftTextError);
  }
});

test('rendering the same Snapshot twice gives the same text, with each Service named', () => {
  const { snapshot } = clusterOf([{ name: 'a', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]);
  const text = renderNftables(snapshot, CONFIG);
  expect(renderNftables(snapshot, CONFIG)).toBe(text);
  expect(text).toContain('# default/a\n172.30.0.1 . tcp . 80 : 1,');
});
