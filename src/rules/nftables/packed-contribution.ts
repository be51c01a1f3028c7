// A contribution as one string. Maps of 250,000 elements are a million objects, which the garbage collector walks at each round while
// changes wait; as text they are one object for each Service, and a fifth of the memory.

import type { Contribution, ElementId, ElementValue } from './contribution.ts';

/** A line for each element: `id`, a tab, the value. Lines without a tab are of what is shared. */
export type PackedContribution = string;

export function packContribution({ elements, shared }: Contribution): PackedContribution {
  const lines: string[] = [...shared];
  for (const [id, value] of elements) lines.push(`${id}\t${value}`);
  return lines.join('\n');
}

export function unpackContribution(packed: PackedContribution): Contribution {
  const elements = new Map<ElementId, ElementValue>();
  const shared = new Set<ElementId>();
  if (packed === '') return { elements, shared };
  for (const line of packed.split('\n')) {
    const tab = line.indexOf('\t');
    if (tab < 0) shared.add(line);
    else elements.set(line.slice(0, tab), line.slice(tab + 1));
  }
  return { elements, shared };
}
