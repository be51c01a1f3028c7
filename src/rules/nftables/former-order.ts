// The order of endpoints that a table of an earlier run holds, so that a start changes as few elements as can be.

import type { ElementId, ElementValue, FormerOrder } from './contribution.ts';

/** Reads the endpoint maps among the elements. What has gaps is given without them: order matters, not the index. */
export function formerOrder(elements: ReadonlyMap<ElementId, ElementValue>): FormerOrder {
  const byFrontend = new Map<string, string[]>();
  for (const [id, value] of elements) {
    const slash = id.indexOf('/', 2);
    const map = id.slice(2, slash);
    if (!map.endsWith('endpoints') || map.endsWith('sticky-endpoints')) continue;
    const dot = id.lastIndexOf(' . ');
    const name = `${map} ${id.slice(0, 2)}${id.slice(slash + 1, dot)}`;
    let order = byFrontend.get(name);
    if (!order) byFrontend.set(name, (order = []));
    order[Number(id.slice(dot + 3))] = value;
  }
  return (frontend, map) => byFrontend.get(`${map} ${frontend}`)?.filter((endpoint) => endpoint !== undefined);
}
