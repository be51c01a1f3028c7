// A client that does not rest while IPVS mode works, and while modes give way to one another.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { FairleadProcess } from '../support/process.ts';
import { ProxyPlanes } from '../support/proxy-runner.ts';
import { SLOWNESS } from '../support/slowness.ts';
import { SteadyStage, SteadyWorld, firstObjects, pause } from '../support/steady.ts';
import { until } from '../support/until.ts';
import { expectNoFailure } from '../support/no-failure.ts';

let stage: SteadyStage;
beforeAll(async () => {
  stage = await SteadyStage.create();
});
afterAll(() => stage?.close());

const create = (options: { readonly mode: string; readonly others?: number }): Promise<SteadyWorld<ProxyPlanes>> =>
  SteadyWorld.on(stage, new ProxyPlanes(stage.topology.node), options);

test('a client that connects all the time fails not once while endpoints roll', async () => {
  const world = await create({ mode: 'ipvs' });
  onTestFinished(() => world.leave());
  const result = await world.hammered(async () => {
    await world.change([{ pod: 'a' }, { pod: 'b' }, { pod: 'c' }]);
    await world.change([{ pod: 'a', terminating: true }, { pod: 'b' }, { pod: 'c' }]);
    await world.change([{ pod: 'b' }, { pod: 'c' }, { pod: 'd' }]);
    await world.die('a');
    await world.change([{ pod: 'c' }, { pod: 'd' }]);
    await world.die('b');
    await pause(500);
  });
  expectNoFailure(result);
  expect(Object.keys(result.answeredBy).sort()).toEqual(['a', 'b', 'c', 'd']);
});

test('a client that connects all the time fails not once while IPVS gives way to nftables and iptables, and comes back', async () => {
  const world = await create({ mode: 'ipvs' });
  onTestFinished(() => world.leave());
  const result = await world.hammered(async () => {
    for (const mode of ['nftables', 'ipvs', 'iptables', 'ipvs']) {
      await world.stop('SIGTERM');
      await world.start(mode);
      await world.change(mode === 'ipvs' ? [{ pod: 'b' }, { pod: 'c' }] : [{ pod: 'a' }, { pod: 'c' }]);
    }
  });
  expectNoFailure(result);
  expect(result.answeredBy['c']).toBeGreaterThan(0);
});

const LIMIT_MS = 24_000 * SLOWNESS;

/** Reads in a process of its own what every world begins with. */
async function startRelays(): Promise<FairleadProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-'));
  const objects = { apiVersion: 'v1', kind: 'List', items: firstObjects() };
  writeFileSync(join(folder, 'web.json'), JSON.stringify(objects));
  const relays = new FairleadProcess(
    ['proxy', '--mode=userspace', `--manifests=${folder}`, '--node-name=node-a', '--logging-format=json'],
    { namespace: stage.topology.node.namespace },
  );
  onTestFinished(async () => {
    await relays.close();
    rmSync(folder, { recursive: true });
  });
  await relays.logged(({ message }) => message === 'rules in force', LIMIT_MS);
  return relays;
}

test('a client that connects all the time fails not once while IPVS gives way to userspace, and comes back', async () => {
  const { node } = stage.topology;
  const world = await create({ mode: 'ipvs' });
  onTestFinished(() => world.leave());
  const result = await world.hammered(async () => {
    await world.stop('SIGTERM');
    const relays = await startRelays();
    await until(async () => !(await node.run('ip', 'link')).includes('kube-ipvs0'), LIMIT_MS);
    await world.start('ipvs');
    relays.kill();
    await relays.exited;
  });
  expectNoFailure(result);
  expect(await node.run('nft', 'list', 'tables')).not.toContain('fairlead-userspace');
});
