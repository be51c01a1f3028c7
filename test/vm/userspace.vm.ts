// IPVS gives way to the userspace relays and comes back, under a client that does not rest.

import { afterEach, expect, test } from 'vitest';
import { SteadyWorld } from '../support/steady.ts';
import { until } from '../support/until.ts';

let world: SteadyWorld | undefined;
afterEach(() => world?.close());

test(
  'a client that connects every 10 ms fails not once while IPVS gives way to userspace, and comes back',
  { timeout: 240_000 },
  async () => {
    world = await SteadyWorld.create({ mode: 'ipvs' });
    const { node } = world.topology;
    const at = world;
    const { failures, attempts } = await at.hammered(async () => {
      await at.stop('SIGTERM');
      await at.start('userspace');
      const relays = at.proxy;
      await until(async () => !(await node.run('ip', 'link')).includes('kube-ipvs0'), 60_000);
      await at.start('ipvs');
      relays.kill('SIGTERM');
      await relays.exited;
    });
    expect(failures).toEqual([]);
    expect(attempts).toBeGreaterThan(50);
    expect(await node.run('nft', 'list', 'tables')).not.toContain('fairlead-userspace');
  },
);
