import { afterEach, expect, test } from 'vitest';
import { createMetrics } from '../../src/observe/metrics.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { cleanupRules } from '../../src/rules/cleanup.ts';
import { startRulesPlane, type RulesPlane } from '../../src/rules/plane.ts';
import { systemClock } from '../../src/system/clock.ts';
import { createNamespace, netnsMissing, removeNamespace, type Host } from '../support/netns.ts';
import { CONFIG, clusterOf } from './cluster.ts';

const missing = netnsMissing();
const { snapshot } = clusterOf([{ name: 'web', clusterIPs: ['172.30.0.1'], endpoints: ['10.0.0.1:80'] }]);

let host: Host | undefined;
afterEach(async () => {
  if (host) await removeNamespace(host);
  host = undefined;
});

async function start(removeOnStop: boolean): Promise<{ readonly plane: RulesPlane; readonly host: Host }> {
  const made = (host = await createNamespace('plane'));
  const plane = await startRulesPlane({
    mode: 'auto',
    config: CONFIG,
    exec: made.exec,
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    metrics: createMetrics(),
    removeOnStop,
  });
  return { plane, host: made };
}

async function applied(plane: RulesPlane): Promise<void> {
  plane.update(snapshot);
  for (let i = 0; !plane.ready && i < 500; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(plane.ready).toBe(true);
}

test.skipIf(missing)('auto takes nftables; the rules stay when the plane stops, until cleanup', async () => {
  const { plane, host } = await start(false);
  expect(plane.mode).toBe('nftables');
  expect(plane.ready).toBe(false);
  await applied(plane);
  expect(plane.state()).toMatchObject({ mode: 'nftables', revision: 1, backend: { services: 1 } });
  await plane.stop();
  expect(await host.run('nft', 'list', 'map', 'ip', 'fairlead', 'services')).toContain('172.30.0.1 . tcp . 80');
  expect(await cleanupRules(host)).toEqual({
    removed: ['nftables table ip fairlead', 'nftables table ip6 fairlead'],
    problems: [],
  });
  expect(await host.run('nft', 'list', 'ruleset')).toBe('');
  expect(await cleanupRules(host)).toEqual({ removed: [], problems: [] });
});

test.skipIf(missing)('with removeOnStop nothing remains', async () => {
  const { plane, host } = await start(true);
  await applied(plane);
  await plane.stop();
  expect(await host.run('nft', 'list', 'ruleset')).toBe('');
});
