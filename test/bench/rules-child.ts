// One round of the rules benchmark in a process of its own, inside a network namespace: the memory and CPU it reports are
// those of a program that does nothing else. Arguments: load|change|render MODE SERVICES ENDPOINTS [CHANGES].

import { setTimeout as sleep } from 'node:timers/promises';
import { writeSync } from 'node:fs';
import { createMetrics } from '../../src/observe/metrics.ts';
import type { Logger } from '../../src/observe/log.ts';
import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type { ResolvedService, Snapshot } from '../../src/model/snapshot.ts';
import { startRulesPlane } from '../../src/rules/plane.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemExec } from '../../src/system/exec.ts';
import { systemFollow } from '../../src/system/follow.ts';
import { keepHeapSmall } from '../../src/system/heap.ts';
import { ToolShells } from '../../src/system/tool-shell.ts';
import { CONFIG, clusterOf, resolvedOf, type ServiceSketch } from '../rules/cluster.ts';
import { cpuSecondsOf } from '../support/cpu-time.ts';
import { PeakMemory } from './peak-memory.ts';
import { PROBE, RAW, type BenchMode } from './rules-modes.ts';

keepHeapSmall();
const [task = '', modeText = '', servicesText = '', endpointsText = '', changesText = '0'] = process.argv.slice(2);
const raw = RAW[modeText as BenchMode];
const { mode } = raw;
const services = Number(servicesText);
const endpoints = Number(endpointsText);
const changes = Number(changesText);
/** Between two changes. */
const QUIET_MS = 200;

function address(prefix: number, number: number): string {
  return `${prefix}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
}

function sketchOf(index: number, count: number): ServiceSketch {
  return {
    name: `s${index}`,
    clusterIPs: [address(172, 0x1e_0000 + index)],
    // One endpoint in a hundred is local, as on a cluster of a hundred nodes.
    endpoints: Array.from({ length: count }, (_, i) => {
      const number = index * endpoints + i;
      return `${address(10, number)}:8080@node-${number % 100 === 0 ? 'a' : 'b'}`;
    }),
  };
}

function entryOf(index: number, count: number): readonly [string, ResolvedService] {
  const service = resolvedOf(sketchOf(index, count));
  return [service.key, service];
}

function cpuMs(): number {
  const { own, tools } = cpuSecondsOf(process.pid);
  return (own + tools) * 1000;
}

const full = new Set<number>(Array.from({ length: services }, (_, index) => index));
let snapshot: Snapshot = {
  ...clusterOf([]).snapshot,
  services: PersistentMap.from(
    (function* () {
      for (let index = 0; index < services; index++) yield entryOf(index, endpoints);
      const probe = resolvedOf(PROBE);
      yield [probe.key, probe] as const;
    })(),
  ),
};

if (task === 'render') {
  const text = Buffer.from(await raw.render(snapshot, CONFIG));
  for (let at = 0; at < text.length;) at += writeSync(1, text, at);
} else {
  let synced: (() => void) | undefined;
  const fail = (message: string): void => {
    throw new Error(message);
  };
  for (const [file = '', ...args] of raw.prepare ?? []) await systemExec.run(file, args);
  // The plane as `proxy` starts it; its log says when the rules are in force.
  const log: Logger = {
    debug: (message) => message === 'rules unchanged' && synced?.(),
    info: (message) => message.startsWith('rules in force') && synced?.(),
    warn: fail,
    error: fail,
    named: () => log,
  };
  const tools = new ToolShells(systemExec);
  const plane = await startRulesPlane({
    mode,
    config: CONFIG,
    exec: tools,
    follow: systemFollow,
    clock: systemClock,
    random: Math.random,
    log,
    metrics: createMetrics(),
    removeOnStop: false,
  });
  const keepAlive = setInterval(() => undefined, 1000);
  const apply = (next: Snapshot): Promise<void> =>
    new Promise((resolve) => {
      synced = resolve;
      plane.update(next);
    });
  const memory = new PeakMemory();
  const start = performance.now();
  await apply(snapshot);
  const loadMs = performance.now() - start;
  const toolPeakMb = memory.stop();
  const nodePeakMb = process.resourceUsage().maxRSS / 1024;
  const latencies: number[] = [];
  let cpu = 0;
  for (let i = 0; i < changes; i++) {
    const index = (i * 7919) % services;
    // One endpoint goes, and with the next visit comes back.
    const [key, service] = entryOf(index, full.delete(index) ? endpoints - 1 : (full.add(index), endpoints));
    const changed = snapshot.services.with([[key, service]]);
    snapshot = { ...snapshot, revision: snapshot.revision + 1, services: changed };
    // A change alone: in a stream of them the loop paces itself, which `bench -- steady` shows.
    await sleep(QUIET_MS);
    const cpuBefore = cpuMs();
    const at = performance.now();
    await apply(snapshot);
    latencies.push(performance.now() - at);
    cpu += cpuMs() - cpuBefore;
  }
  await plane.stop();
  await tools.close();
  clearInterval(keepAlive);
  process.stdout.write(JSON.stringify({ loadMs, nodePeakMb, toolPeakMb, latencies, cpuMsPerChange: cpu / changes }));
}
