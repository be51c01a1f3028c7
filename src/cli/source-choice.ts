// Which source: folders of manifests, or the API server.

import type { Ip } from '../lib/ip.ts';
import { isLoopback } from '../lib/ip.ts';
import type { ManifestOptions } from '../source/manifests/document.ts';
import type { ApiConnection } from '../source/api/connection.ts';
import { readCredentials, type ApiTarget, type ReadCredentials } from '../source/api/credentials.ts';
import type { WantedKind } from '../source/api/source.ts';
import type { Kind, Store } from '../source/store.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import { isClusterKind, selectorOf } from '../dns/cluster-needs.ts';
import type { ClusterSelectors } from '../dns/block.ts';
import type { Arguments } from './args.ts';
import type { Context, RunningContext } from './context.ts';
import { UsageError } from './errors.ts';
import { clusterIpRanges, nodeName, nodePortRange } from './settings.ts';
import { VERSION } from './version.ts';

export interface NamedObjects {
  readonly secrets: ReadonlySet<string>;
  readonly configMaps: ReadonlySet<string>;
}

export interface RunningSource {
  /** Sends requests as who we are; undefined when no API server is the source. */
  readonly connection: ApiConnection | undefined;
  /** Reads these objects too, `namespace/name`; replaces the ones of the kind that were asked for before. */
  readonly watchNamed: (kind: keyof NamedObjects, keys: ReadonlySet<string>) => void;
  /** Resolves when all that was named so far has been read once. */
  readonly namedRead: () => Promise<void>;
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
    selectors: {},
  };
}

/** What of a cluster is read. */
export interface SourceScope {
  /** Objects of no other namespace are read. */
  readonly namespace?: string | undefined;
  /** Only objects with these labels. */
  readonly selectors?: ClusterSelectors;
  /** Whose names the requests to the API server are counted under; those of every client of Kubernetes where it is left out. */
  readonly countedAs?: 'coredns';
  /** The longest wait between two attempts to reach an API server that is not there. */
  readonly mostWaitMs?: number | undefined;
}

/** The source that the flags ask for; `own` goes before them. Throws UsageError for flags that contradict each other. */
export function chooseSource(
  args: Arguments,
  context: Context,
  own: SourceScope & {
    readonly nodeName?: string;
    readonly kubeconfig?: string;
    readonly certificateAuthority?: string | undefined;
  } = {},
): SourceStarter {
  const node = own.nodeName ?? nodeName(args, context.hostname);
  const dirs = manifestDirs(args);
  if (dirs.length > 0) {
    for (const flag of ['kubeconfig', 'master']) {
      if (args.text(flag) !== undefined) {
        throw new UsageError(`flags --manifests and --${flag} exclude each other: a folder or an API server, not both`);
      }
    }
    const options = { ...manifestOptions(args, context), nodeName: node, selectors: byManifestKind(own.selectors) };
    return async (store, _kinds, { log, clock, files }) => {
      const { startManifestSource } = await import('../source/manifests/source.ts');
      const source = await startManifestSource({ ...options, dirs, store, log: log.named('manifests'), clock, files });
      // Every Secret and ConfigMap of the folder is in the store already.
      return {
        connection: undefined,
        watchNamed: () => {},
        namedRead: () => Promise.resolve(),
        stop: () => source.stop(),
      };
    };
  }
  return apiServerSource(
    {
      kubeconfig: own.kubeconfig === undefined ? args.text('kubeconfig') : own.kubeconfig || undefined,
      master: args.text('master'),
    },
    node,
    own,
    own.certificateAuthority,
  );
}

function byManifestKind({ objects, namespaces }: ClusterSelectors = {}): ManifestOptions['selectors'] {
  return {
    ...(objects ? { Service: objects, EndpointSlice: objects, Pod: objects, ServiceImport: objects } : {}),
    ...(namespaces ? { Namespace: namespaces } : {}),
  };
}

/** The node's addresses when no Node object gives them: the first of each family that others can reach. */
function ownAddresses(): readonly Ip[] {
  return interfaceAddresses().filter((ip) => !isLoopback(ip));
}

/** Follows an API server; without kubeconfig and master, in-cluster. */
export function apiServerSource(
  target: ApiTarget,
  node: string,
  scope: SourceScope = {},
  certificateAuthority?: string,
): SourceStarter {
  return async (store, kinds, context) => {
    const { startApiSource } = await import('../source/api/source.ts');
    const { createCoreDnsRequestMetrics } = await import('../source/api/request-metrics.ts');
    const source = await startApiSource({
      ...context,
      target,
      ...(certificateAuthority === undefined ? {} : { readCredentials: trusting(certificateAuthority, context) }),
      store,
      kinds: kinds.flatMap((kind) => (kind === 'secrets' || kind === 'configMaps' ? [] : [wanted(kind, node, scope)])),
      log: context.log.named('api'),
      mostWaitMs: scope.mostWaitMs,
      userAgent: `fairlead/${VERSION}`,
      ...(scope.countedAs === 'coredns' ? { requestMetrics: createCoreDnsRequestMetrics } : {}),
    });
    return {
      connection: source.connection,
      watchNamed: (kind, keys) => source.watchNamed(kind, keys),
      namedRead: () => source.synced(),
      stop: () => source.stop(),
    };
  };
}

/** The credentials as ever, with the CA of a file. */
function trusting(file: string, { files }: RunningContext): ReadCredentials {
  return async (target) => ({ ...(await readCredentials(target)), caPem: await files.readText(file) });
}

const OPTIONAL: ReadonlySet<Kind> = new Set(['ingresses', 'ingressClasses', 'serviceImports']);

/** Of Nodes only our own is read, as kube-proxy does; a cluster may serve no Ingress. */
function wanted(
  kind: Exclude<Kind, 'secrets' | 'configMaps'>,
  node: string,
  { namespace, selectors }: SourceScope,
): WantedKind {
  if (kind === 'nodes') return { kind, scope: { name: node } };
  if (kind === 'serviceCIDRs') return { kind, optional: true, dispensable: true };
  const labelSelector = isClusterKind(kind) ? selectorOf(kind, selectors ?? {}) : undefined;
  return {
    kind,
    scope: { namespace, labelSelector },
    optional: OPTIONAL.has(kind),
  };
}
