// A plane that serves a Corefile over a test API server.

import { Pipeline } from '../../src/cli/pipeline.ts';
import { clusterNeeds, selectorOf, type ClusterNeeds } from '../../src/dns/cluster-needs.ts';
import { loadCorefile, type LoadedCorefile } from '../../src/dns/corefile/load.ts';
import { startCorefilePlane, type DnsPlane } from '../../src/dns/plane.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { startApiSource } from '../../src/source/api/source.ts';
import { Store } from '../../src/source/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles, type Files } from '../../src/system/files.ts';
import { until } from '../support/until.ts';
import type { Server } from './dig.ts';
import { recordingLog } from './world.ts';
import { ip } from '../support/values.ts';

const COREFILE = '/Corefile';
const KINDS = ['services', 'endpointSlices', 'namespaces', 'pods'] as const;

export interface ClusterFeed {
  readonly pipeline: Pipeline;
  close(): Promise<void>;
}

/** Follows an API server, for any number of planes. */
export async function followCluster(url: string, corefile?: string): Promise<ClusterFeed> {
  const { kinds, selectors } = corefile === undefined ? { kinds: KINDS, selectors: {} } : await needsOf(corefile);
  const { log } = recordingLog();
  const store = new Store();
  const common = { log, metrics: createMetrics(), clock: systemClock };
  const pipeline = new Pipeline({ ...common, store, kinds, nodeName: 'node-a' });
  pipeline.start();
  const source = await startApiSource({
    ...common,
    store,
    target: { kubeconfig: undefined, master: url },
    kinds: kinds.map((kind) => ({ kind, scope: { labelSelector: selectorOf(kind, selectors) } })),
    random: Math.random,
    files: systemFiles,
  });
  await source.synced();
  await until(() => pipeline.snapshot !== undefined);
  return {
    pipeline,
    close: async () => {
      await source.stop();
      pipeline.stop();
    },
  };
}

async function needsOf(text: string): Promise<ClusterNeeds> {
  // Files beside it matter to other plugins only.
  const files: Files = { ...systemFiles, readText: async () => placed(text.replace(/^ +file .*$/gm, '')) };
  const loaded = await loadCorefile({ path: COREFILE, files, env: () => undefined });
  if (loaded.kind === 'mistake') throw new Error(loaded.message);
  const found = clusterNeeds(loaded.corefile.blocks);
  if (found.kind === 'mistake') throw new Error(found.message);
  return found.needs;
}

export interface CorefileWorld {
  readonly plane: DnsPlane;
  readonly server: Server;
  readonly lines: readonly string[];
  /** What is read at the next reload. */
  rewrite(text: string): void;
  metrics(): Promise<string>;
}

/** `:PORT` in the text becomes a port of the system's choice; every block listens on 127.0.0.1. */
export async function serveCorefile(
  text: string,
  feed: ClusterFeed | undefined,
  beside: Readonly<Record<string, string>> = {},
): Promise<CorefileWorld> {
  let now = text;
  const files: Files = {
    ...systemFiles,
    readText: async (path) => (path === COREFILE ? placed(now) : (beside[path.slice(1)] ?? systemFiles.readText(path))),
  };
  const load = (): Promise<LoadedCorefile> => loadCorefile({ path: COREFILE, files, env: () => undefined });
  const loaded = await load();
  if (loaded.kind === 'mistake') throw new Error(loaded.message);
  const { log, lines } = recordingLog();
  const metrics = createMetrics();
  const plane = await startCorefilePlane({
    corefile: loaded.corefile,
    load,
    selfIps: [ip('10.244.0.20')],
    log,
    metrics,
    clock: systemClock,
    files,
  });
  if (feed) {
    feed.pipeline.add(plane, 'now');
    await until(() => plane.ready);
  }
  const [server] = plane.addresses;
  if (!server) throw new Error('nothing is listened on');
  return {
    plane,
    server,
    lines,
    rewrite: (next) => {
      now = next;
    },
    metrics: () => metrics.text(),
  };
}

function placed(text: string): string {
  return text.replaceAll(/:PORT \{\n/g, ':0 {\n    bind 127.0.0.1\n');
}
