// Whose rules the kernel refuses, where the tool does not say: the legacy one names the line of COMMIT, whatever the fault is.

import type { IpFamily } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import { chainId } from './names.ts';
import type { ChainChange, Planner } from './plan.ts';
import { renderRestore } from './render.ts';

/** Writes a text; false when it is refused. */
export type TryRestore = (input: string) => Promise<boolean>;

/**
 * Writes the chains of ever fewer Services, which leads no packet anywhere that is not led there already, until one alone is refused.
 * `changes` are all chains as they are wanted. Undefined when every Service's are taken: the fault is elsewhere.
 */
export async function findCulprit(
  family: IpFamily,
  changes: readonly ChainChange[],
  planner: Planner,
  taken: TryRestore,
): Promise<ObjectKey | undefined> {
  const owners = planner.owners();
  // Endpoints are led to it.
  const marking = changes.filter(({ id }) => id === chainId(family, 'nat', 'KUBE-MARK-MASQ'));
  const byService = new Map<ObjectKey, ChainChange[]>();
  for (const change of changes) {
    const owner = owners.get(change.id);
    if (owner === undefined || change.after === undefined || !change.id.startsWith(`${family}/`)) continue;
    byService.set(owner, [...(byService.get(owner) ?? []), change]);
  }
  const search = async (
    services: readonly (readonly [ObjectKey, readonly ChainChange[]])[],
  ): Promise<ObjectKey | undefined> => {
    const own = services.flatMap(([, list]) => list);
    if (own.length === 0) return undefined;
    if (await taken(renderRestore({ changes: [...marking, ...own], jumps: [], guard: undefined }))) return undefined;
    const [only] = services;
    if (services.length === 1) return only?.[0];
    const half = Math.ceil(services.length / 2);
    return (await search(services.slice(0, half))) ?? (await search(services.slice(half)));
  };
  return search([...byService]);
}
