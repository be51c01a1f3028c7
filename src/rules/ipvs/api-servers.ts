// The addresses of the API servers, which are those of the nodes that they run on.

import type { Ip } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';

/** The Service that the API servers keep for themselves (kubernetes/kubernetes: pkg/controlplane/controller/kubernetesservice). */
const SERVICE = 'default/kubernetes';

/** Sorted, each once. None where it is not known: the last API server that stops takes itself out before. */
export function apiServersOf({ services }: Pick<Snapshot, 'services'>): readonly Ip[] {
  const ports = services.get(SERVICE)?.ports ?? [];
  return [...new Set(ports.flatMap(({ endpoints }) => endpoints.map(({ ip }) => ip)))].sort();
}
