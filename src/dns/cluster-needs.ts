// What of a cluster has to be read for a Corefile: from which server, which kinds, under which labels.

import type { ApiTarget, BlockDraft, ClusterSelectors } from './block.ts';

const KINDS = ['services', 'endpointSlices', 'namespaces', 'pods', 'serviceImports', 'importedSlices'] as const;

export type ClusterKind = (typeof KINDS)[number];

export function isClusterKind(kind: string): kind is ClusterKind {
  return KINDS.some((one) => one === kind);
}

export interface ClusterNeeds {
  /** None when no block answers for a cluster. */
  readonly kinds: readonly ClusterKind[];
  readonly target: ApiTarget;
  readonly selectors: ClusterSelectors;
}

export type FoundNeeds =
  | { readonly kind: 'needs'; readonly needs: ClusterNeeds }
  | { readonly kind: 'mistake'; readonly message: string };

/** One process reads one cluster in one way: blocks that want it differently are a mistake. */
export function clusterNeeds(blocks: readonly BlockDraft[]): FoundNeeds {
  const plugins = blocks.flatMap(({ kubernetes }) => kubernetes ?? []);
  const [first] = plugins;
  if (!first) return { kind: 'needs', needs: { kinds: [], target: {}, selectors: {} } };
  const named = plugins.filter(({ target }) => target.kubeconfig !== undefined || target.endpoint !== undefined);
  const target = named[0]?.target ?? {};
  const other = named.find((one) => JSON.stringify(one.target) !== JSON.stringify(target));
  if (other) return differs(other.place.file, other.place.line, 'API servers');
  const odd = plugins.find((one) => selectorText(one.selectors) !== selectorText(first.selectors));
  if (odd) return differs(odd.place.file, odd.place.line, 'labels');
  const kinds = new Set<ClusterKind>(['services', 'namespaces']);
  for (const { zones } of plugins) {
    if (zones.some(({ noEndpoints }) => !noEndpoints)) kinds.add('endpointSlices');
    if (zones.some(({ pods }) => pods === 'verified')) kinds.add('pods');
    if (zones.some(({ multicluster }) => multicluster)) kinds.add('serviceImports').add('importedSlices');
  }
  return { kind: 'needs', needs: { kinds: [...kinds], target, selectors: first.selectors } };
}

function selectorText({ objects, namespaces }: ClusterSelectors): string {
  return JSON.stringify([objects?.text, namespaces?.text]);
}

function differs(file: string, line: number, what: string): FoundNeeds {
  const message = `${file}:${line}: the kubernetes plugins of the Corefile name different ${what}; one process follows one cluster in one way`;
  return { kind: 'mistake', message };
}

/** The label selector that a kind is read under. */
export function selectorOf(kind: ClusterKind, { objects, namespaces }: ClusterSelectors): string | undefined {
  // CoreDNS reads ServiceImports under the selector of namespaces, which nobody can have meant.
  if (kind === 'importedSlices') return IMPORTED_SLICES;
  return (kind === 'namespaces' ? namespaces : objects)?.text;
}

const IMPORTED_SLICES = 'multicluster.kubernetes.io/service-name';
