// What a client sees that connects every 10 ms through a ClusterIP and a NodePort, while the things happen to the node that happen to nodes:
// failed connections, how long until none fails, and the CPU that the proxy spends. In network namespaces, with `fairlead proxy` as a user
// starts it.

import { parseArgs } from 'node:util';
import type { HammerResult, HammerTarget } from '../support/hammer.ts';
import { netnsMissing } from '../support/netns.ts';
import type { CpuSeconds } from '../support/cpu-time.ts';
import { SteadyWorld, TARGETS, pause, service } from '../support/steady.ts';
import { printTable } from './table.ts';

interface Row {
  readonly what: string;
  readonly result: HammerResult;
  /** From the event to the last connection that failed; undefined when none did. */
  readonly repairSeconds: number | undefined;
  readonly cpu: CpuSeconds;
  readonly note: string;
}

/** Does it, and says when the event was (Date.now()) and what else there is to say. */
type Event = (world: SteadyWorld) => Promise<{ readonly at: number; readonly note?: string }>;

/** A client that sends from one socket all the time, to a Service of its own. */
const UDP_FLOW = 'the Pod behind a UDP flow is replaced';
const UDP_TARGETS: readonly HammerTarget[] = [{ protocol: 'UDP', address: '172.30.2.1', port: 80, oneSocket: true }];

const MODES: readonly string[] = ['nftables', 'iptables', 'ipvs', 'userspace'];
const CHANGES = 4000;
const CHANGES_SECONDS = 20;
/** How long a repair is waited for. */
const PATIENCE_MS = 15_000;

const EVENTS: Readonly<Record<string, Event>> = {
  'endpoints roll, 10 times': async (world) => {
    const at = Date.now();
    for (let round = 0; round < 10; round++) {
      const [old, fresh] = round % 2 === 0 ? (['a', 'c'] as const) : (['c', 'a'] as const);
      await world.change([{ pod: old }, { pod: 'b' }, { pod: fresh }]);
      await world.change([{ pod: old, terminating: true }, { pod: 'b' }, { pod: fresh }]);
      await world.announce([{ pod: 'b' }, { pod: fresh }]);
      await pause(100);
    }
    return { at };
  },
  'an endpoint dies as it leaves': async (world) => {
    const at = Date.now();
    await Promise.all([world.die('b'), world.change([{ pod: 'a' }, { pod: 'c' }])]);
    const inForce = Date.now() - at;
    await pause(500);
    return { at, note: `change in force after ${inForce} ms` };
  },
  'killed and started': async (world) => {
    const at = Date.now();
    await world.stop('SIGKILL');
    await world.start();
    return { at, note: `in force after ${Date.now() - at} ms` };
  },
  restarted: async (world) => {
    const at = Date.now();
    await world.stop('SIGTERM');
    await world.start();
    return { at, note: `in force after ${Date.now() - at} ms` };
  },
  [`${CHANGES} changes in ${CHANGES_SECONDS} s`]: async (world) => {
    const at = Date.now();
    const start = performance.now();
    for (let i = 0; i < CHANGES; i++) {
      const name = i % 10 === 0 ? 'web' : `other-${i % 100}`;
      await world.announce(
        Math.floor(i / 100) % 2 === 0 ? [{ pod: 'b' }, { pod: 'c' }] : [{ pod: 'a' }, { pod: 'c' }],
        name,
      );
      await pause(Math.max(0, start + (i * CHANGES_SECONDS * 1000) / CHANGES - performance.now()));
    }
    const seconds = (performance.now() - start) / 1000;
    const last = Date.now();
    await world.change([{ pod: 'd' }]);
    return { at, note: `sent in ${seconds.toFixed(1)} s, the last in force after ${Date.now() - last} ms` };
  },
  [UDP_FLOW]: async (world) => {
    await pause(300);
    const at = Date.now();
    await Promise.all([world.die('b'), world.change([{ pod: 'c' }], 'udp')]);
    const inForce = Date.now() - at;
    await pause(3000);
    return { at, note: `change in force after ${inForce} ms` };
  },
  'another mode, and back': async (world) => {
    const { mode } = world;
    const other = mode === 'nftables' ? 'iptables' : 'nftables';
    const at = Date.now();
    await world.stop('SIGTERM');
    try {
      await world.start(other);
    } catch (error) {
      await world.start(mode);
      return { at, note: `${other} cannot be had here (${lastLine(error)}): ${mode} started again` };
    }
    await pause(500);
    await world.stop('SIGTERM');
    await world.start(mode);
    return { at, note: `${other}, ${mode}` };
  },
  "taken over from kube-proxy's iptables rules, and given back": (world) => takenOver(world, 'iptables'),
  "taken over from kube-proxy's nftables rules, and given back": (world) => takenOver(world, 'nftables'),
  'nft flush ruleset': (world) => repaired(world, ['nft', 'flush', 'ruleset']),
  'iptables -F and -t nat -F': (world) => repaired(world, ['sh', '-c', 'iptables -F && iptables -t nat -F']),
};

/** kube-proxy's rules serve, ours take their place, and theirs ours again. */
async function takenOver(world: SteadyWorld, theirs: 'iptables' | 'nftables'): Promise<{ at: number; note: string }> {
  await world.stop('SIGTERM');
  await world.kubeProxyServes(theirs, [{ pod: 'a' }, { pod: 'b' }]);
  await world.cleanup();
  await pause(300);
  const at = Date.now();
  await world.start();
  const inForce = Date.now() - at;
  await world.change([{ pod: 'b' }, { pod: 'c' }]);
  await pause(300);
  await world.stop('SIGTERM');
  await world.kubeProxyServes(theirs, [{ pod: 'c' }, { pod: 'd' }]);
  await world.cleanup();
  await pause(300);
  return { at, note: `in force after ${inForce} ms; ${(await world.rulesThere()).join(', ')} left` };
}

/** Does what somebody else may do, and waits until a connection is answered again. */
async function repaired(
  world: SteadyWorld,
  [file = '', ...args]: readonly string[],
): Promise<{ at: number; note: string }> {
  const at = Date.now();
  await world.topology.node.run(file, ...args);
  for (;;) {
    await pause(100);
    const outcome = await world.topology.client.connect({
      protocol: 'TCP',
      address: '172.30.0.1',
      port: 80,
      timeoutMs: 500,
    });
    if (outcome.kind === 'answered')
      return { at, note: `answered again after ${((Date.now() - at) / 1000).toFixed(1)} s` };
    if (Date.now() - at > PATIENCE_MS) return { at, note: `not mended in ${PATIENCE_MS / 1000} s` };
  }
}

function lastLine(error: unknown): string {
  return String(error).trim().split('\n').at(-1) ?? '';
}

export async function benchSteady(argv: readonly string[]): Promise<number> {
  const missing = netnsMissing();
  if (missing) {
    process.stderr.write(`the benchmark of steadiness cannot run here: ${missing}\n`);
    return 1;
  }
  let only: string;
  let mode: string;
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { only: { type: 'string', default: '' }, mode: { type: 'string', default: 'nftables' } },
    });
    ({ only, mode } = values);
    if (!MODES.includes(mode)) throw new Error(`--mode is ${MODES.join(' or ')}, not "${mode}"`);
    const events = Object.keys(EVENTS);
    if (!events.some((what) => what.includes(only))) throw new Error(`--only is part of one of: ${events.join('; ')}`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  const rows: Row[] = [];
  for (const [what, event] of Object.entries(EVENTS)) {
    if (what.includes(only)) rows.push(await measure(what, event, mode));
  }
  print(mode, rows);
  return 0;
}

async function measure(what: string, event: Event, mode: string): Promise<Row> {
  const world = await SteadyWorld.create({ mode, others: 100 });
  try {
    await world.apply(service('udp', '172.30.2.1', undefined, { ports: [{ port: 80, protocol: 'UDP', name: 'udp' }] }));
    await world.change([{ pod: 'b' }], 'udp');
    const before = world.cpuSeconds();
    let at = 0;
    let note = '';
    const result = await world.hammered(
      async () => {
        ({ at, note = '' } = await event(world));
      },
      what === UDP_FLOW ? UDP_TARGETS : TARGETS,
    );
    const after = world.cpuSeconds();
    const lastFailure = Math.max(...result.failures.map((failure) => failure.at));
    const repairSeconds = result.failures.length === 0 ? undefined : (lastFailure - at) / 1000;
    return {
      what,
      result,
      repairSeconds,
      cpu: { own: after.own - before.own, tools: after.tools - before.tools },
      note,
    };
  } finally {
    await world.close();
  }
}

function print(mode: string, rows: readonly Row[]): void {
  const cells = [
    ['', 'connections', 'failed', 'slowest', 'seconds to repair', 'CPU seconds', 'of these in tools', ''],
    ...rows.map(({ what, result, repairSeconds, cpu, note }) => [
      what,
      String(result.attempts),
      String(result.failures.length),
      `${result.slowestMs} ms`,
      repairSeconds === undefined ? '–' : repairSeconds.toFixed(2),
      (cpu.own + cpu.tools).toFixed(2),
      cpu.tools.toFixed(2),
      note,
    ]),
  ];
  printTable(`a client connects every 10 ms through a ClusterIP and a NodePort, mode ${mode}`, cells, new Set([7]));
}
