// A contribution as it is kept. Chains put together line by line are trees of small strings, and maps of them a million objects that the garbage
// collector walks; as one flat text they take a third of the memory.

import type { Contribution } from './contribution.ts';
import type { ChainId } from './names.ts';

export interface PackedContribution {
  /** Each chain's id and text, in turn, with a zero behind each. */
  readonly chains: string;
  /** As in the contribution: asked for whenever a chain that all share is written. */
  readonly lines: ReadonlyMap<ChainId, string>;
}

const END = '\0';

export function packContribution({ chains, lines }: Contribution): PackedContribution {
  const parts: string[] = [];
  for (const [id, text] of chains) parts.push(id, END, text, END);
  return {
    // Joined text is flat.
    chains: parts.join(''),
    lines: new Map([...lines].map(([id, text]) => [id, text.split('\n').join('\n')])),
  };
}

export function unpackContribution({ chains, lines }: PackedContribution): Contribution {
  const unpacked = new Map<ChainId, string>();
  const parts = chains.split(END);
  for (let i = 0; i + 1 < parts.length; i += 2) unpacked.set(parts[i] ?? '', parts[i + 1] ?? '');
  return { chains: unpacked, lines };
}
