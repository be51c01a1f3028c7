// A plane that serves a Corefile from a folder of its own, over the small cluster of world.ts.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCorefile, type LoadedCorefile } from '../../src/dns/corefile/load.ts';
import { startCorefilePlane, type CorefilePlaneOptions, type DnsPlane } from '../../src/dns/plane.ts';
import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import { until } from '../support/until.ts';
import { buildSnapshot } from './snapshot-builder.ts';
import { CLUSTER, recordingLog } from './world.ts';

export interface CorefileServer {
  readonly plane: DnsPlane;
  readonly metrics: Metrics;
  readonly folder: string;
  /** Lines of the log. */
  readonly lines: readonly string[];
  /** Writes the Corefile anew. */
  rewrite(corefile: string): Promise<void>;
  stop(): Promise<void>;
}

/** `files` by name stand beside the Corefile. Resolves once the cluster is answered for. */
export async function serveCorefile(
  corefile: string,
  options: Partial<CorefilePlaneOptions> & {
    readonly files?: never;
    readonly beside?: Readonly<Record<string, string>>;
  } = {},
): Promise<CorefileServer> {
  const { beside = {}, ...more } = options;
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-dns-'));
  const path = join(folder, 'Corefile');
  for (const [name, text] of Object.entries({ ...beside, Corefile: corefile }))
    await writeFile(join(folder, name), text);
  const load = (): Promise<LoadedCorefile> => loadCorefile({ path, files: systemFiles, env: () => undefined });
  const loaded = await load();
  if (loaded.kind === 'mistake') throw new Error(loaded.message);
  const { log, lines } = recordingLog();
  const metrics = createMetrics();
  const plane = await startCorefilePlane({
    corefile: loaded.corefile,
    load,
    log,
    metrics,
    clock: systemClock,
    ...more,
  });
  plane.update(buildSnapshot(CLUSTER));
  await until(() => plane.ready);
  return {
    plane,
    metrics,
    folder,
    lines,
    rewrite: (text) => writeFile(path, text),
    stop: async () => {
      await plane.stop();
      await rm(folder, { recursive: true });
    },
  };
}
