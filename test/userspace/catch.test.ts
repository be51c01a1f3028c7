import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { CaughtAddress } from '../../src/rules/userspace/catch-rules.ts';
import { Catcher } from '../../src/rules/userspace/catcher.ts';
import { hostPort } from '../../src/lib/ip.ts';
import type { Exec } from '../../src/system/exec.ts';
import { Netcat } from '../support/netcat.ts';
import { CLIENT_IPS, netnsMissing, NODE_IPS, Topology } from '../support/netns.ts';
import { until } from '../support/until.ts';
import { ip } from '../support/values.ts';

const missing = netnsMissing('iptables', 'conntrack', 'nc');
if (missing) process.stderr.write(`left out: Service addresses led to relays (${missing})\n`);

const [NODE_4 = '', NODE_6 = ''] = NODE_IPS;
const VIP_4 = '172.30.0.1';
const VIP_6 = 'fd00:10:96::1';

function caught(protocol: 'TCP' | 'UDP', address: string, port: number, relayPort: number): CaughtAddress {
  return {
    protocol,
    address: ip(address),
    port,
    relay: { ip: ip(address.includes(':') ? NODE_6 : NODE_4), port: relayPort },
  };
}

const ALL = [
  caught('TCP', VIP_4, 80, 7001),
  caught('UDP', VIP_4, 80, 7002),
  caught('TCP', VIP_6, 80, 7003),
  caught('UDP', VIP_6, 80, 7004),
];

describe.skipIf(missing)('addresses that are not the node’s', () => {
  let topology: Topology;
  beforeEach(async () => {
    topology = await Topology.create();
    for (const { protocol, relay } of ALL) {
      const name = `${protocol}-${relay.port}`;
      await topology.node.serve({ protocol, address: relay.ip, port: relay.port, name });
    }
  });
  afterEach(() => topology?.close());

  /** Without nft, where a machine with iptables alone is meant. */
  const execWith = (tool: string): Exec => ({
    run: async (file, args, options) => {
      if (tool === 'iptables' && file === 'nft')
        return { exitCode: -1, stdout: '', stderr: '', notFound: true, timedOut: false };
      return topology.node.exec.run(file, args, options);
    },
  });

  test.each(['nft', 'iptables'])(
    'are led to the relays by %s, for clients outside and on the node, and no more once removed',
    async (tool) => {
      const catcher = new Catcher(execWith(tool));
      expect(await catcher.prepare()).toEqual({ kind: 'with', tool });
      expect(await catcher.write(ALL)).toEqual({ kind: 'written' });
      for (const { protocol, address, port, relay } of ALL) {
        const by = `${protocol}-${relay.port}`;
        const peerSeen = CLIENT_IPS.find((each) => each.includes(':') === address.includes(':'));
        expect(await topology.client.connect({ protocol, address, port })).toEqual({ kind: 'answered', by, peerSeen });
        expect(await topology.node.connect({ protocol, address, port })).toMatchObject({ kind: 'answered', by });
      }
      // The relay's own port answers nobody.
      const direct = { protocol: 'TCP', address: NODE_4, port: 7001, timeoutMs: 300 } as const;
      expect(await topology.client.connect(direct)).toEqual({ kind: 'silence' });
      // One less; the others stay.
      expect(await catcher.write(ALL.slice(1))).toEqual({ kind: 'written' });
      expect(await catcher.write(ALL.slice(1))).toEqual({ kind: 'unchanged' });
      const gone = { protocol: 'TCP', address: VIP_4, port: 80, timeoutMs: 300 } as const;
      expect(await topology.client.connect(gone)).not.toMatchObject({ kind: 'answered' });
      expect(await topology.client.connect({ protocol: 'UDP', address: VIP_4, port: 80 })).toMatchObject({
        kind: 'answered',
      });
      const { removed, problems } = await catcher.remove();
      expect(problems).toEqual([]);
      expect(removed).toHaveLength(2);
      expect(await topology.client.connect(direct)).toMatchObject({ kind: 'answered' });
      expect(await topology.node.run('iptables-save')).not.toContain('FAIRLEAD');
      expect(await topology.node.run('nft', 'list', 'ruleset')).not.toMatch(/fairlead|FAIRLEAD/);
    },
  );

  // IPVS, when it forgets a connection, makes conntrack forget what stands now between the same two addresses and ports.
  test.each([
    ['nft', 'TCP', VIP_4],
    ['nft', 'TCP', VIP_6],
    ['nft', 'UDP', VIP_4],
    ['iptables', 'TCP', VIP_4],
    ['iptables', 'TCP', VIP_6],
    ['iptables', 'UDP', VIP_4],
  ] as const)(
    'led there by %s, a %s connection to %s goes on when conntrack has forgotten it',
    async (tool, protocol, address) => {
      const { node, client } = topology;
      const catcher = new Catcher(execWith(tool));
      await catcher.prepare();
      const led = caught(protocol, address, 81, 7005);
      await catcher.write([led]);
      const kind = protocol === 'UDP' ? ['-u'] : [];
      for (const from of [client, node]) {
        const relay = new Netcat(node.namespace, ...kind, '-l', led.relay.ip, '7005');
        onTestFinished(() => relay.close());
        const listening = hostPort(led.relay.ip, 7005);
        await until(async () => (await node.run('ss', '-Hlntu')).includes(listening));
        const talker = new Netcat(from.namespace, ...kind, address, '81');
        onTestFinished(() => talker.close());
        talker.say('first\n');
        await relay.heard('first');
        await node.run('conntrack', '-F');
        relay.say('server after the loss\n');
        await talker.heard('server after the loss');
        talker.say('client after it\n');
        await relay.heard('client after it');
        await node.run('conntrack', '-F');
        talker.say('client after the loss\n');
        expect(await relay.heard('client after the loss')).toBe('first\nclient after it\nclient after the loss\n');
        relay.say('the end\n');
        expect(await talker.heard('the end')).toBe('server after the loss\nthe end\n');
        await Promise.all([relay.close(), talker.close()]);
      }
    },
  );

  test.each([
    ['nft', 'nft flush ruleset'],
    ['nft', 'nft flush chain ip6 fairlead-userspace output'],
    ['iptables', 'iptables -t nat -F'],
    ['iptables', 'ip6tables -t filter -D INPUT -j FAIRLEAD-USERSPACE'],
  ])('are looked for with %s: gone after `%s`, theirs who put rules of another mode there', async (tool, damage) => {
    const { node } = topology;
    const catcher = new Catcher(execWith(tool));
    await catcher.prepare();
    expect(await catcher.look()).toBe('there');
    await catcher.write(ALL);
    expect(await catcher.look()).toBe('there');
    await node.run('sh', '-c', damage);
    expect(await catcher.look()).toBe('missing');
    catcher.forget();
    expect(await catcher.write(ALL)).toEqual({ kind: 'written' });
    expect(await catcher.look()).toBe('there');
    await node.run('sh', '-c', damage);
    await node.run('iptables', '-t', 'nat', '-N', 'KUBE-SERVICES');
    expect(await catcher.look()).toBe('taken over');
  });

  test('are counted one by one at each tenth look', async () => {
    const catcher = new Catcher(topology.node.exec);
    await catcher.prepare();
    await catcher.write(ALL);
    for (let i = 0; i < 10; i++) expect(await catcher.look()).toBe('there');
    const element = `{ ${VIP_4} . tcp . 80 }`;
    await topology.node.run('nft', 'delete', 'element', 'ip', 'fairlead-userspace', 'relays', element);
    const states: string[] = [];
    for (let i = 0; i < 10; i++) states.push(await catcher.look());
    expect(states).toEqual([...Array<string>(9).fill('there'), 'missing']);
  });

  test('without the right to write rules it says so', async () => {
    const denied: Exec = {
      run: () =>
        Promise.resolve({
          exitCode: 1,
          stdout: '',
          stderr: 'Operation not permitted',
          notFound: false,
          timedOut: false,
        }),
    };
    expect(await new Catcher(denied).prepare()).toEqual({
      kind: 'not',
      reason: 'nft: Operation not permitted; iptables: Operation not permitted',
    });
  });
});
