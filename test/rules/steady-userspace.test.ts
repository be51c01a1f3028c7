// Relays that the kernel leads Service addresses to: what a client sees, and that the rules come and go with the process.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { netnsMissing } from '../support/netns.ts';
import { runFairlead } from '../support/process.ts';
import type { ProxyProcesses } from '../support/proxy-runner.ts';
import { CLUSTER_IP, NODE_IP, NODE_PORT, SteadyWorld } from '../support/steady.ts';
import { expectNoFailure } from '../support/no-failure.ts';

const missing = netnsMissing('iptables');
if (missing) process.stderr.write(`left out: a client that connects every 10 ms in mode userspace (${missing})\n`);

describe.skipIf(missing)('userspace: a client that connects every 10 ms fails not once while', () => {
  let world: SteadyWorld<ProxyProcesses>;
  afterEach(() => world?.close());

  test('endpoints roll: each is replaced, terminates, and is gone', async () => {
    world = await SteadyWorld.create({ mode: 'userspace', others: 3 });
    const result = await world.hammered(async () => {
      await world.change([{ pod: 'a' }, { pod: 'b' }, { pod: 'c' }]);
      await world.change([{ pod: 'a', terminating: true }, { pod: 'b' }, { pod: 'c' }]);
      await world.change([{ pod: 'b' }, { pod: 'c' }, { pod: 'd' }]);
      await world.die('a');
      await world.change([{ pod: 'c' }, { pod: 'd' }]);
    });
    expectNoFailure(result);
    expect(Object.keys(result.answeredBy).sort()).toEqual(['a', 'b', 'c', 'd']);
  });

  test.each(['nftables', 'iptables'])('%s gives way to it, and comes back', async (other) => {
    world = await SteadyWorld.create({ mode: other });
    const result = await world.hammered(async () => {
      // Rules of a proxy that is gone stay and serve.
      await world.stop('SIGTERM');
      await world.start('userspace');
      await world.change([{ pod: 'b' }, { pod: 'c' }]);
      // Relays go with their process: the next one first.
      const relays = world.runner.proxy;
      await world.start(other);
      relays.kill('SIGTERM');
      await relays.exited;
      await world.change([{ pod: 'c' }]);
    });
    expectNoFailure(result);
    expect(result.answeredBy['c']).toBeGreaterThan(0);
  });
});

describe.skipIf(missing)('userspace: the rules that lead to the relays', () => {
  let world: SteadyWorld<ProxyProcesses>;
  beforeEach(async () => {
    world = await SteadyWorld.create({ mode: 'userspace' });
  });
  afterEach(() => world?.close());

  const rules = (): Promise<string> => world.topology.node.run('nft', 'list', 'ruleset');
  const connect = (address: string, port: number) =>
    world.topology.client.connect({ protocol: 'TCP', address, port, timeoutMs: 400 });

  test('are one table of each family in use, come back when somebody flushes them, and go when the proxy stops', async () => {
    expect((await rules()).match(/^table .*$/gm)).toEqual(['table ip fairlead-userspace {']);
    expect(await connect(CLUSTER_IP, 80)).toMatchObject({ kind: 'answered' });
    await world.repaired(() => world.topology.node.run('nft', 'flush', 'ruleset'));
    expect((await rules()).match(/^table .*$/gm)).toEqual(['table ip fairlead-userspace {']);
    expect(await connect(CLUSTER_IP, 80)).toMatchObject({ kind: 'answered' });
    await world.stop('SIGTERM');
    expect(await rules()).toBe('');
  });

  test('lead NodePorts as well, whose own sockets stay open beside', async () => {
    expect(await rules()).toMatch(new RegExp(`${NODE_IP.replaceAll('.', '\\.')} \\. tcp \\. ${NODE_PORT} : `));
    expect(await connect(NODE_IP, NODE_PORT)).toMatchObject({ kind: 'answered' });
    await world.topology.node.run('nft', 'flush', 'ruleset');
    expect(await connect(NODE_IP, NODE_PORT)).toMatchObject({ kind: 'answered' });
  });

  test('answer nobody who finds the port of a relay', async () => {
    const port = Number(/172\.30\.0\.1 \. tcp \. 80 : 192\.168\.0\.2 \. ([0-9]+)/.exec(await rules())?.[1]);
    expect(port).toBeGreaterThan(0);
    expect(await connect('192.168.0.2', port)).toEqual({ kind: 'silence' });
  });

  test('are taken out by cleanup where the proxy was killed, and replaced by the next one', async () => {
    await world.stop('SIGKILL');
    await world.start();
    expect(await connect(CLUSTER_IP, 80)).toMatchObject({ kind: 'answered' });
    await world.stop('SIGKILL');
    const { stdout } = await runFairlead(['cleanup'], { namespace: world.topology.node.namespace });
    expect(stdout).toContain('removed nftables table ip fairlead-userspace');
    expect(await rules()).toBe('');
  });
});
