// Which source: folders of manifests, or the API server.

import type { Ip } from '../lib/ip.ts';
import { isLoopback } from '../lib/ip.ts';
import type { ManifestOptions } from '../source/manifests/document.ts';
import type { WantedKind } from '../source/api/source.ts';
import type { Kind, Store } from '../source/store.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import type { Arguments } from './args.ts';
import type { Context, RunningContext } from './context.ts';
import { UsageError } from './errors.ts';
import { clusterIpRanges, nodeName, nodePortRange } from './settings.ts';
import { VERSION } from './version.ts';

export interface RunningSource {
  /** Reads these Secrets too, `namespace/name`; replaces the ones asked for before. */
  readonly watchSecrets: (keys: ReadonlySet<string>) => void;
  readonly stop: () => Promise<void>;
}

export type SourceStarter = (store: Store, kinds: readonly Kind[], context: RunningContext) => Promise<RunningSource>;

export function manifestDirs(args: Arguments): readonly string[] {
  const dirs = args.list('manifests') ?? [];
  if (dirs.includes('')) throw new UsageError('flag --manifests is empty; give a folder');
  return dirs;
}

export function manifestOptions(args: Arguments, context: Context): ManifestOptions {
  return {
    clusterIPRanges: clusterIpRanges(args),
    nodePortRange: nodePortRange(args),
    nodeName: nodeName(args, context.hostname),
    nodeIPs: ownAddresses(),
  };
}

/** The source that the flags ask for. Throws UsageError for flags that contradict each other. */
export function chooseSource(args: Arguments, context: Context): SourceStarter {
  const dirs = manifestDirs(args);
  if (dirs.length > 0) {
    for (const flag of ['kubeconfig', 'master']) {
      if (args.text(flag) !== undefined) {
        throw new UsageError(`flags --manifests and --${flag} exclude each other: a folder or an API server, not both`);
      }
    }
    const options = manifestOptions(args, context);
    return async (store, _kinds, { log, clock, files }) => {
      const { startManifestSource } = await import('../source/manifests/source.ts');
      const source = await startManifestSource({ ...options, dirs, store, log: log.named('manifests'), clock, files });
      // Every Secret of the folder is in the store already.
      return { watchSecrets: () => {}, stop: () => source.stop() };
    };
  }
  const target = { kubeconfig: args.text('kubeconfig'), master: args.text('master') };
  return apiServerSource(target, nodeName(args, context.hostname));
}

/** The node's addresses when no Node object gives them: the first of each family that others can reach. */
function ownAddresses(): readonly Ip[] {
  return interfaceAddresses().filter((ip) => !isLoopback(ip));
}

/** Follows an API server; both undefined is in-cluster. */
export function apiServerSource(
  target: { readonly kubeconfig: string | undefined; readonly master: string | undefined },
  node: string,
): SourceStarter {
  return async (store, kinds, context) => {
    const { startApiSource } = await import('../source/api/source.ts');
    const source = await startApiSource({
      ...context,
      target,
      store,
      kinds: kinds.flatMap((kind) => (kind === 'secrets' || kind === 'configMaps' ? [] : [wanted(kind, node)])),
      log: context.log.named('api'),
      userAgent: `fairlead/${VERSION}`,
    });
    return { watchSecrets: (keys) => source.watchNamed('secrets', keys), stop: () => source.stop() };
  };
}

/** Of Nodes only our own is read, as kube-proxy does; a cluster may serve no Ingress. */
function wanted(kind: Exclude<Kind, 'secrets' | 'configMaps'>, node: string): WantedKind {
  if (kind === 'nodes') return { kind, scope: { name: node } };
  return { kind, optional: kind === 'ingresses' || kind === 'ingressClasses' };
}
