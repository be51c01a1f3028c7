// What a client may expect that connects all the time, in the modes that every kernel has: a test file for each calls this. IPVS: test/vm/steady.vm.ts.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { netnsMissing } from './netns.ts';
import { CLUSTER_IP, NODE_PORT, PODS, SteadyWorld, TARGETS, pause, service } from './steady.ts';
import { SLOWNESS } from './slowness.ts';
import { until } from './until.ts';
import { expectNoFailure } from './no-failure.ts';

/** So many are enough to say that none failed. */
const ATTEMPTS = 50 / SLOWNESS;

const UDP_PORT = [{ port: 80, protocol: 'UDP', name: 'udp' }];
const UDP_FLOW = [{ protocol: 'UDP' as const, address: '172.30.2.1', port: 80, oneSocket: true }];

/** What a mode's test does to the rules of that mode on the node, as somebody else may. */
export type Flush = (world: SteadyWorld) => Promise<unknown>;

export function steadyCases(mode: 'nftables' | 'iptables', flush: Flush): void {
  const missing = netnsMissing();
  if (missing) process.stderr.write(`left out: a client that connects every 10 ms in mode ${mode} (${missing})\n`);
  describe.skipIf(missing)(`${mode}: a client that connects every 10 ms fails not once while`, () => {
    let world: SteadyWorld;
    beforeEach(async () => {
      world = await SteadyWorld.create({ mode, others: 10 });
    });
    afterEach(() => world?.close());

    test('endpoints roll: each is replaced, terminates, and is gone', async () => {
      const result = await world.hammered(async () => {
        await world.change([{ pod: 'a' }, { pod: 'b' }, { pod: 'c' }]);
        await world.change([{ pod: 'a', terminating: true }, { pod: 'b' }, { pod: 'c' }]);
        await world.change([{ pod: 'b' }, { pod: 'c' }, { pod: 'd' }]);
        await world.die('a');
        await world.change([{ pod: 'b', terminating: true }, { pod: 'c' }, { pod: 'd' }]);
        await world.die('b');
        await world.announce([{ pod: 'c' }, { pod: 'd' }]);
        await pause(200);
      });
      expectNoFailure(result, ATTEMPTS);
      expect(Object.keys(result.answeredBy).sort()).toEqual(['a', 'b', 'c', 'd']);
    });

    test('the last endpoint terminates before the next is ready', async () => {
      const result = await world.hammered(async () => {
        await world.change([{ pod: 'a' }]);
        await world.announce([{ pod: 'a', terminating: true }]);
        await pause(200);
        await world.change([{ pod: 'a', terminating: true }, { pod: 'c' }]);
      });
      expectNoFailure(result, ATTEMPTS);
      expect(result.answeredBy['c']).toBeGreaterThan(0);
    });

    test('the proxy is killed, and started again', async () => {
      const result = await world.hammered(async () => {
        await world.stop('SIGKILL');
        await pause(200);
        await world.start();
        await world.change([{ pod: 'b' }, { pod: 'c' }]);
      });
      expectNoFailure(result, ATTEMPTS);
      expect(result.answeredBy['c']).toBeGreaterThan(0);
    });

    test('the proxy is restarted while endpoints change', async () => {
      const result = await world.hammered(async () => {
        await world.announce([{ pod: 'a' }, { pod: 'b' }, { pod: 'c' }]);
        await world.stop('SIGTERM');
        await world.announce([{ pod: 'b' }, { pod: 'c' }, { pod: 'd' }]);
        await world.start();
      });
      expectNoFailure(result, ATTEMPTS);
      expect(result.answeredBy['d']).toBeGreaterThan(0);
    });

    test('the proxy is restarted in another mode, and back', async () => {
      const others = { nftables: ['iptables'], iptables: ['nftables'] }[mode];
      const result = await world.hammered(async () => {
        for (const other of others) {
          await world.stop('SIGTERM');
          await world.start(other);
          await world.change([{ pod: 'a' }, { pod: 'c' }]);
          await world.change([{ pod: 'b' }, { pod: 'c' }]);
        }
        await world.stop('SIGTERM');
        await world.start(mode);
        await world.change([{ pod: 'c' }]);
      });
      expectNoFailure(result, ATTEMPTS);
      expect(result.answeredBy['c']).toBeGreaterThan(0);
    });

    for (const theirs of ['iptables', 'nftables'] as const) {
      test(`it takes over from kube-proxy's rules in mode ${theirs}, and kube-proxy takes over again`, async () => {
        await world.stop('SIGTERM');
        await world.kubeProxyServes(theirs, [{ pod: 'a' }, { pod: 'b' }]);
        await world.cleanup();
        const before = await world.rulesThere();
        const ours = { nftables: ['fairlead'], iptables: ['chains'] }[mode];
        const result = await world.hammered(async () => {
          await world.start();
          expect(await world.rulesThere()).toEqual(ours);
          await world.change([{ pod: 'b' }, { pod: 'c' }]);
          await world.stop('SIGTERM');
          await world.kubeProxyServes(theirs, [{ pod: 'c' }, { pod: 'd' }]);
          await world.cleanup();
        });
        expectNoFailure(result, ATTEMPTS);
        expect(await world.rulesThere()).toEqual(before);
        expect(before).toEqual([theirs === 'nftables' ? 'kube-proxy' : 'chains']);
        const after = await world.hammered(() => pause(100));
        expectNoFailure(after);
        expect(Object.keys(after.answeredBy).sort()).toEqual(['c', 'd']);
      });
    }

    test('400 changes of endpoints come in 2 seconds, and the last of them is in force', async () => {
      const result = await world.hammered(async () => {
        const start = performance.now();
        for (let i = 0; i < 400; i++) {
          const name = i % 4 === 0 ? 'web' : `other-${i % 10}`;
          await world.announce(i % 8 < 4 ? [{ pod: 'b' }, { pod: 'c' }] : [{ pod: 'a' }, { pod: 'c' }], name);
          await pause(Math.max(0, start + i * 5 - performance.now()));
        }
        await world.change([{ pod: 'd' }]);
      });
      expectNoFailure(result, ATTEMPTS);
      const { answeredBy } = await world.hammered(() => pause(300));
      expect(Object.keys(answeredBy)).toEqual(['d']);
    });

    test('one NodePort number carries TCP and UDP, and the endpoints of both change', async () => {
      const ports = [
        { port: 80, protocol: 'TCP', name: 'main', nodePort: NODE_PORT },
        { port: 80, protocol: 'UDP', name: 'udp', nodePort: NODE_PORT },
      ];
      await world.apply(service('web', CLUSTER_IP, NODE_PORT, { ports }));
      const both = [...TARGETS, ...TARGETS.map((target) => ({ ...target, protocol: 'UDP' as const }))];
      const result = await world.hammered(async () => {
        await world.change([{ pod: 'b' }, { pod: 'c' }]);
        await world.change([{ pod: 'c' }]);
      }, both);
      expectNoFailure(result, ATTEMPTS);
      expect(result.answeredBy['c']).toBeGreaterThan(0);
    });
  });

  describe.skipIf(missing)(`${mode}: a Service under traffic`, () => {
    let world: SteadyWorld;
    beforeEach(async () => {
      world = await SteadyWorld.create({ mode });
    });
    afterEach(() => world?.close());

    test('an endpoint that dies as it leaves fails nobody once the change is in force', async () => {
      let left = 0;
      const result = await world.hammered(async () => {
        await world.die('b');
        await world.change([{ pod: 'a' }]);
        left = Date.now();
        await pause(300);
      });
      // Until the news arrives its share of the connections is refused, or cut off as its listener closes: no proxy can know.
      expect(result.failures.filter(({ at }) => at > left)).toEqual([]);
      const byTheEndpoint = new Set(['ECONNREFUSED', 'ECONNRESET', 'EMPTY']);
      expect(result.failures.filter(({ code }) => !byTheEndpoint.has(code))).toEqual([]);
      expect(result.answeredBy['a']).toBeGreaterThan(30 / SLOWNESS);
    });

    test('a UDP client that sends from one socket keeps its endpoint while others come and the proxy restarts', async () => {
      await world.apply(service('dns', '172.30.2.1', undefined, { ports: UDP_PORT }));
      await world.change([{ pod: 'a' }], 'dns');
      const result = await world.hammered(async () => {
        await world.change([{ pod: 'a' }, { pod: 'b' }, { pod: 'c' }], 'dns');
        await world.stop('SIGKILL');
        await world.start();
        await world.change([{ pod: 'a' }, { pod: 'd' }], 'dns');
      }, UDP_FLOW);
      expect(Object.keys(result.answeredBy)).toEqual(['a']);
      expectNoFailure(result, ATTEMPTS);
    });

    test('a UDP client that sends from one socket is led to the next Pod when its own is replaced', async () => {
      await world.apply(service('dns', '172.30.2.1', undefined, { ports: UDP_PORT }));
      await world.change([{ pod: 'a' }], 'dns');
      let led = 0;
      const result = await world.hammered(async () => {
        await world.die('a');
        await world.change([{ pod: 'c' }], 'dns');
        // Flows are deleted beside the sync, a moment after it.
        await world.runner.logged(({ message }) => message === 'stale flows deleted');
        led = Date.now();
        await pause(1000);
      }, UDP_FLOW);
      expect(result.answeredBy['c']).toBeGreaterThan(20 / SLOWNESS);
      expect(result.failures.filter(({ at }) => at > led)).toEqual([]);
    });

    test('a TCP connection outlives the removal of its endpoint, and is reset where that is asked for', async () => {
      const { client } = world.topology;
      for (const name of ['a', 'b'] as const) {
        await world.pods[name].serve({ protocol: 'TCP', address: PODS[name], port: 8081, name, keeps: true });
      }
      const port = { name: 'main', port: 8081, protocol: 'TCP' };
      for (const resets of [false, true]) {
        await world.stop('SIGTERM');
        await world.start(mode, `--reset-tcp-to-deleted-endpoints=${resets}`);
        await world.change([{ pod: 'a' }], 'web', [port]);
        const talk = await client.talk({ address: CLUSTER_IP, port: 80, everyMs: 20 });
        await until(async () => (await talk.state()).by === 'a');
        await world.change([{ pod: 'b' }], 'web', [port]);
        const { answers } = await talk.state();
        await until(async () => {
          const now = await talk.state();
          return resets ? now.ended !== '' : now.answers > answers + 20;
        });
        expect(await talk.state()).toMatchObject({ by: 'a', ended: resets ? 'ECONNRESET' : '' });
        await talk.close();
      }
    });

    test('rules that somebody else flushes are repaired, and every connection from then on is answered', async () => {
      let repaired = 0;
      const result = await world.hammered(async () => {
        await world.repaired(() => flush(world));
        repaired = Date.now();
        await pause(1000);
      });
      expect(result.failures.filter(({ at }) => at > repaired)).toEqual([]);
      expect(result.answeredBy['a']).toBeGreaterThan(20 / SLOWNESS);
    });

    test('affinity keeps a client, moves it when its endpoint goes, and forgets it after the time-out', async () => {
      const affinity = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } } };
      await world.apply(service('web', CLUSTER_IP, NODE_PORT, affinity));
      const kept = await world.hammered(() => world.change([{ pod: 'a' }, { pod: 'b' }, { pod: 'c' }]));
      expectNoFailure(kept);
      const [first = '', ...more] = Object.keys(kept.answeredBy);
      expect(more).toEqual([]);
      const rest = (['a', 'b', 'c'] as const).filter((pod) => pod !== first).map((pod) => ({ pod }));
      await world.change(rest);
      const moved = await world.hammered(() => pause(100));
      expectNoFailure(moved);
      expect(Object.keys(moved.answeredBy)).toHaveLength(1);
      expect(moved.answeredBy[first]).toBeUndefined();
      affinity.sessionAffinityConfig.clientIP.timeoutSeconds = 2;
      await world.apply(service('web', CLUSTER_IP, NODE_PORT, affinity));
      // Each rest is longer than the time-out, so each visit is drawn anew: that 20 of them meet one endpoint happens once in 500,000.
      const visits = new Set<string>();
      for (let i = 0; i < 20 && visits.size < 2; i++) {
        await pause(2100);
        const outcome = await world.topology.client.connect({ protocol: 'TCP', address: CLUSTER_IP, port: 80 });
        visits.add(outcome.kind === 'answered' ? outcome.by : outcome.kind);
      }
      expect([...visits].sort()).toEqual(rest.map(({ pod }) => pod));
    }, 60_000);
  });
}
