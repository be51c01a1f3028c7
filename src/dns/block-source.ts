// Where server blocks come from, as plain data: each thread makes its own blocks of it.

import { silentLogger } from '../observe/log.ts';
import type { Files } from '../system/files.ts';
import type { BlockAt } from './configuration.ts';
import { draftBlocks } from './corefile/load.ts';
import type { ServerBlock } from './corefile/parse.ts';
import { flagBlock, type FlagSettings } from './flag-block.ts';
import type { ListenAddress } from './listener.ts';

export type BlockSource =
  | {
      readonly kind: 'corefile';
      readonly parsed: readonly ServerBlock[];
      readonly port: number | undefined;
      /** For each block that comes of it, in order. */
      readonly listen: readonly (readonly ListenAddress[])[];
    }
  | { readonly kind: 'flags'; readonly settings: FlagSettings };

/** Says nothing of what is odd: who reads the source first does. */
export async function blocksOf(source: BlockSource, files: Files): Promise<readonly BlockAt[]> {
  switch (source.kind) {
    case 'flags':
      return [{ draft: await flagBlock(source.settings, silentLogger, files), listen: source.settings.listen }];
    case 'corefile': {
      const drafts = await draftBlocks(source.parsed, { files, port: source.port, warn: () => {} });
      return drafts.map((draft, i) => ({ draft, listen: source.listen[i] ?? [] }));
    }
  }
}
