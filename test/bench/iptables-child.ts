// One round of the iptables benchmark in a process of its own, inside a network namespace: the memory and CPU it reports are
// those of a program that does nothing else. Arguments: load|render SERVICES ENDPOINTS [CHANGES].

import { readFileSync, writeSync } from 'node:fs';
import { silentLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type { ResolvedService, Snapshot } from '../../src/model/snapshot.ts';
import type { RulesConfig } from '../../src/rules/config.ts';
import { IptablesBackend } from '../../src/rules/iptables/apply.ts';
import { DriftWatch } from '../../src/rules/iptables/drift.ts';
import { renderIptables } from '../../src/rules/iptables/render.ts';
import { findTool } from '../../src/rules/iptables/tool.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemExec } from '../../src/system/exec.ts';
import { CONFIG, clusterOf, resolvedOf } from '../rules/cluster.ts';
import { PeakMemory } from './peak-memory.ts';

const [task = '', ...numbers] = process.argv.slice(2);
const [services = 0, endpoints = 0, changes = 0] = numbers.map(Number);
const config: RulesConfig = { ...CONFIG, nodePortAddresses: { kind: 'all' } };

function address(prefix: number, number: number): string {
  return `${prefix}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
}

function entryOf(index: number, count: number): readonly [string, ResolvedService] {
  const service = resolvedOf({
    name: `s${index}`,
    clusterIPs: [address(172, 0x1e_0000 + index)],
    endpoints: Array.from({ length: count }, (_, i) => `${address(10, index * endpoints + i)}:8080@node-b`),
  });
  return [service.key, service];
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  // cutime and cstime, in hundredths of a second: children that have ended.
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (user + system) / 1000 + (Number(fields[13]) + Number(fields[14])) * 10;
}

const all = Array.from({ length: services }, (_, index) => entryOf(index, endpoints));
let snapshot: Snapshot = { ...clusterOf([]).snapshot, services: PersistentMap.from(all) };

if (task === 'render') {
  const text = renderIptables(snapshot, config);
  const bytes = Buffer.from(text.slice(0, text.indexOf('# iptables-restore, IPv6')));
  for (let at = 0; at < bytes.length;) at += writeSync(1, bytes, at);
} else {
  const options = { config, exec: systemExec, log: silentLogger, clock: systemClock };
  const backend = new IptablesBackend({ ...options, metrics: createMetrics() });
  const sync = async (): Promise<number> => {
    const start = performance.now();
    const outcome = await backend.sync(snapshot);
    if (outcome.kind === 'failed') throw new Error(outcome.reason);
    return performance.now() - start;
  };
  const memory = new PeakMemory();
  const loadMs = await sync();
  const toolPeakMb = memory.stop();
  const nodePeakMb = process.resourceUsage().maxRSS / 1024;
  const latencies: number[] = [];
  const before = cpuMs();
  for (let i = 0; i < changes; i++) {
    // One endpoint of one Service goes.
    const [key, service] = entryOf((i * 7919) % services, endpoints - 1);
    const changed = snapshot.services.with([[key, service]]);
    snapshot = { ...snapshot, revision: snapshot.revision + 1, services: changed };
    latencies.push(await sync());
  }
  const cpuMsPerChange = (cpuMs() - before) / Math.max(1, changes);
  const restartMs = await restart();
  const beforeCheck = cpuMs();
  const missing = await new DriftWatch(options).check(await findTool(systemExec, config));
  if (missing !== undefined) throw new Error(`missing: ${missing}`);
  const checkCpuMs = cpuMs() - beforeCheck;
  process.stdout.write(
    JSON.stringify({ loadMs, nodePeakMb, toolPeakMb, latencies, cpuMsPerChange, restartMs, checkCpuMs }),
  );
}

/** A new process's first sync over what is there already. */
async function restart(): Promise<number> {
  const again = new IptablesBackend({
    config,
    exec: systemExec,
    log: silentLogger,
    clock: systemClock,
    metrics: createMetrics(),
  });
  const start = performance.now();
  const outcome = await again.sync(snapshot);
  if (outcome.kind === 'failed') throw new Error(outcome.reason);
  return performance.now() - start;
}
