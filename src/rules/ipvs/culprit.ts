// Whose part of a whole the tools did not take. `ipset restore` names the line at which it stopped; `ipvsadm --restore` and `ip -force -batch` go
// on and name nothing, so what is not there afterwards is what was refused.

import type { ObjectKey } from '../../model/records.ts';
import type { IpvsConfig } from '../config.ts';
import { ToolError, type IpvsKernel } from './kernel.ts';
import { stepFor } from './load.ts';
import type { Planner } from './plan.ts';
import { serverLines } from './render.ts';

/** Empty where it is not about Services: what holds for every one of them is not. `planner`: what was to be written. */
export async function findCulprits(
  error: ToolError,
  planner: Planner,
  kernel: IpvsKernel,
  ipvs: IpvsConfig,
): Promise<readonly ObjectKey[]> {
  const found = await servicesOf(error, planner, kernel, ipvs);
  return found.length === planner.services ? [] : found;
}

async function servicesOf(
  { tool, refused }: ToolError,
  planner: Planner,
  kernel: IpvsKernel,
  ipvs: IpvsConfig,
): Promise<readonly ObjectKey[]> {
  if (refused === undefined) return [];
  try {
    switch (tool) {
      case 'ipset': {
        // The set may be one that is to take another's place.
        const entry = /^add \S+ (\S+)$/.exec(refused.line ?? '')?.[1];
        if (entry === undefined) return [];
        return planner.ownersOf(({ entries }) => entries.some((each) => each.endsWith(` ${entry}`)));
      }
      case 'ipvsadm': {
        const held = await kernel.servers();
        return planner.ownersOf(({ servers }) =>
          servers.some((server) => {
            const step = stepFor(server.key, server, held.get(server.key));
            return serverLines(step, step.draining, ipvs).text !== '';
          }),
        );
      }
      case 'ip': {
        const { ours, hasLink } = await kernel.addresses();
        if (!hasLink) return [];
        return planner.ownersOf(({ addresses }) => addresses.some((ip) => !ours.has(ip)));
      }
      default:
        return [];
    }
  } catch (error) {
    if (error instanceof ToolError) return [];
    throw error;
  }
}
