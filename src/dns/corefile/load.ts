// A Corefile's text → server blocks whose plugins have read their lines, or the first mistake in it.

import { createHash } from 'node:crypto';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { nearestName } from '../../lib/edit-distance.ts';
import type { Files } from '../../system/files.ts';
import { BlockDraft, type BlockDoors, type Served } from '../block.ts';
import { builtPlugin, CHAIN_ORDER, isKnownPlugin } from '../plugin-list.ts';
import type { Scheme } from '../listener.ts';
import { nameText, type DnsName } from '../wire/name.ts';
import { lookUpHost } from '../host-lookup.ts';
import { CorefileError } from './error.ts';
import { parseKey } from './key.ts';
import { parseCorefile, type CorefileDoors, type Directive, type ServerBlock } from './parse.ts';

export interface Corefile {
  readonly blocks: readonly BlockDraft[];
  /** What they were made of. */
  readonly parsed: readonly ServerBlock[];
  readonly port: number | undefined;
  /** SHA-512 of what it says, comments and white space left out. */
  readonly hash: string;
  readonly warnings: readonly string[];
}

export type LoadedCorefile =
  | { readonly kind: 'corefile'; readonly corefile: Corefile }
  /** `file:line: what is wrong`. */
  | { readonly kind: 'mistake'; readonly message: string };

export interface LoadOptions {
  readonly path: string;
  readonly files: Files;
  readonly env: (name: string) => string | undefined;
  /** For keys without a port; 53 by default. */
  readonly port?: number;
}

/** What is served when a Corefile says nothing. */
const EMPTY = '.:53 {\n whoami\n log\n}\n';

/** Reads the file and what it imports. A file that is not there is a mistake too. */
export async function loadCorefile(options: LoadOptions): Promise<LoadedCorefile> {
  const { path, files, env, port } = options;
  const text = await readText(files, path);
  if (text === undefined)
    return { kind: 'mistake', message: `cannot read the Corefile ${path}: give its path with -conf` };
  const warnings: string[] = [];
  const doors: CorefileDoors = {
    env,
    readText: (file) => readText(files, file),
    glob: (pattern) => glob(files, pattern),
    relativeTo,
    warn: (message) => warnings.push(message),
  };
  try {
    let blocks = await parseCorefile(text, path, doors);
    if (blocks.length === 0) blocks = await parseCorefile(EMPTY, path, doors);
    const hash = createHash('sha512')
      .update(JSON.stringify(blocks.map(withoutPlaces)))
      .digest('hex');
    const drafts = await draftsOf(blocks, port, doors);
    return { kind: 'corefile', corefile: { blocks: drafts, parsed: blocks, port, hash, warnings } };
  } catch (error) {
    if (!(error instanceof CorefileError)) throw error;
    return { kind: 'mistake', message: error.message };
  }
}

/** Blocks of what was parsed, for another thread. Throws a CorefileError for what has gone wrong since. */
export function draftBlocks(
  parsed: readonly ServerBlock[],
  options: {
    readonly files: Files;
    readonly port: number | undefined;
    readonly warn: (message: string) => void;
  },
): Promise<readonly BlockDraft[]> {
  const { files, port, warn } = options;
  return draftsOf(parsed, port, { readText: (file) => readText(files, file), relativeTo, warn });
}

type DraftDoors = Pick<CorefileDoors, 'readText' | 'relativeTo' | 'warn'>;

function relativeTo(file: string, named: string): string {
  return isAbsolute(named) ? named : join(dirname(file), named);
}

async function readText(files: Files, path: string): Promise<string | undefined> {
  try {
    return await files.readText(path);
  } catch {
    return undefined;
  }
}

async function glob(files: Files, pattern: string): Promise<readonly string[]> {
  const folder = dirname(pattern);
  const listing = await files.list(folder);
  const last = basename(pattern).replace(/[.+^${}()|\\]/g, '\\$&');
  const matches = new RegExp(`^${last.replace('*', '.*').replace('?', '.')}$`, 's');
  return [...(listing?.files.keys() ?? [])]
    .filter((file) => dirname(file) === folder && matches.test(basename(file)))
    .sort();
}

function withoutPlaces({ keys, directives }: ServerBlock): unknown {
  const bare = ({ name, args, options }: Directive) => [
    name,
    args,
    options.map((option) => [option.name, option.args]),
  ];
  return [keys, directives.map(bare)];
}

async function draftsOf(
  blocks: readonly ServerBlock[],
  port: number | undefined,
  doors: DraftDoors,
): Promise<readonly BlockDraft[]> {
  const drafts: BlockDraft[] = [];
  /** Zones that a block without a view answers whole. */
  const served = new Set<string>();
  const schemes = new Map<number, Scheme>();
  for (const block of blocks) {
    const filtered = block.directives.some(({ name }) => name === 'view');
    const byPort = new Map<number, { scheme: Scheme; zones: DnsName[] }>();
    for (const key of block.keys.flatMap((text) => parseKey(text, block.place, port))) {
      const id = `${key.zone} ${key.port}`;
      if (served.has(id) && !filtered)
        throw new CorefileError(block.place, `the zone ${nameText(key.zone)} is served on port ${key.port} twice`);
      if (!filtered) served.add(id);
      const { scheme } = key;
      const known = schemes.get(key.port) ?? scheme;
      if (known !== scheme)
        throw new CorefileError(
          block.place,
          `port ${key.port} serves ${known}:// already; ${scheme}:// needs another one`,
        );
      schemes.set(key.port, scheme);
      byPort.set(key.port, { scheme, zones: [...(byPort.get(key.port)?.zones ?? []), key.zone] });
    }
    for (const [number, at] of byPort) drafts.push(await draftOf(block, { ...at, port: number }, doors));
  }
  return drafts;
}

function unknownPlugin(name: string): string {
  if (isKnownPlugin(name)) return `the plugin "${name}" is known and not built yet; remove it`;
  const near = nearestName(
    name,
    CHAIN_ORDER.filter((other) => builtPlugin(other)),
  );
  return `there is no plugin "${name}"${near === undefined ? '' : `; did you mean ${near}?`}`;
}

async function draftOf(block: ServerBlock, at: Served, doors: DraftDoors): Promise<BlockDraft> {
  const blockDoors: BlockDoors = {
    readText: doors.readText,
    pathOf: (name, place) =>
      draft.root !== undefined && !isAbsolute(name) ? join(draft.root, name) : doors.relativeTo(place.file, name),
    warn: doors.warn,
    resolve: lookUpHost,
  };
  const draft: BlockDraft = new BlockDraft(at, block.place, blockDoors);
  const seen = new Set<string>();
  // The folder for files is known before any file is named.
  const ordered = [...block.directives].sort((a, b) => Number(b.name === 'root') - Number(a.name === 'root'));
  for (const directive of ordered) {
    const { name, place } = directive;
    const plugin = builtPlugin(name);
    if (!plugin) throw new CorefileError(place, unknownPlugin(name));
    if (plugin.once && seen.has(name)) throw new CorefileError(place, `${name} may stand in a server block once`);
    seen.add(name);
    await plugin.setup(directive, draft);
    draft.plugins.add(name);
  }
  for (const check of draft.checks) check();
  if (at.scheme !== 'dns' && !draft.tls)
    throw new CorefileError(block.place, `${at.scheme}:// needs a certificate: name it with tls CERT KEY`);
  return draft;
}
