// Flags and, with `--config`, the file → the configuration to start with.

import type { Files } from '../../system/files.ts';
import type { Arguments } from '../args.ts';
import { messageOf } from '../../lib/message-of.ts';
import { UsageError } from '../errors.ts';
import { configurationFromFlags, idleFlags, withFlagsBeside } from './from-flags.ts';
import type { ParsedConfiguration } from './parse.ts';
import { LEAVES, valueAt, type KubeProxyConfiguration } from './schema.ts';
import { modeOf, type Origin } from './settings.ts';

export interface LoadedConfiguration {
  readonly configuration: KubeProxyConfiguration;
  readonly origin: Origin;
  /** The file, and what was read of it. */
  readonly file: { readonly path: string; readonly text: string } | undefined;
  /** What is worth telling once the log is there. */
  readonly notices: readonly string[];
}

/** Throws UsageError, with everything that is wrong. */
export async function loadConfiguration(args: Arguments, files: Files): Promise<LoadedConfiguration> {
  const path = args.text('config');
  const idle = idleFlags(args, path !== undefined);
  const notices = [
    ...(idle.meaningless.length > 0 ? [`these flags have no effect here: ${idle.meaningless.join(', ')}`] : []),
    ...(idle.overruled.length > 0
      ? [`these flags have no effect beside --config, the file says what counts: ${idle.overruled.join(', ')}`]
      : []),
  ];
  if (path === undefined) {
    const configuration = configurationFromFlags(args);
    modeOf(configuration, 'flags');
    return { configuration, origin: 'flags', file: undefined, notices };
  }
  let text: string;
  try {
    text = await files.readText(path);
  } catch (error) {
    throw new UsageError(
      `flag --config: ${path} cannot be read (${messageOf(error)}); give a KubeProxyConfiguration file`,
      {
        cause: error,
      },
    );
  }
  const parsed = await parseFile(path, text);
  if (parsed.kind === 'wrong') throw new UsageError(parsed.problems.join('\nfairlead: '));
  return {
    configuration: withFlagsBeside(parsed.configuration, args),
    origin: 'file',
    file: { path, text },
    notices: [...notices, ...meaninglessFields(path, parsed), ...modeNotice(path, parsed.configuration)],
  };
}

function modeNotice(path: string, { mode }: KubeProxyConfiguration): readonly string[] {
  if (mode !== '') return [];
  return [
    `${path}: mode is not set, which is iptables, as with kube-proxy; \`mode: nftables\` costs a fraction of it (NodePorts do not answer on 127.0.0.1 then)`,
  ];
}

/** The YAML reader costs memory that a start by flags alone is spared. */
export async function parseFile(path: string, text: string): Promise<ParsedConfiguration> {
  const { parseConfiguration } = await import('./parse.ts');
  return parseConfiguration(path, text);
}

/** Fields that say something and mean nothing here: Windows, gates, the manner of reading the API. */
function meaninglessFields(
  path: string,
  { configuration, set }: Extract<ParsedConfiguration, { kind: 'configuration' }>,
): readonly string[] {
  const fields = [...set].filter((field) => {
    const leaf = LEAVES.get(field);
    if (leaf?.change !== 'none') return false;
    return JSON.stringify(valueAt(configuration, field)) !== JSON.stringify(leaf.fallback);
  });
  const shown = fields.map((field) => (field.startsWith('win') ? `${field} (Windows)` : field));
  return shown.length === 0 ? [] : [`${path}: these fields have no effect here: ${shown.join(', ')}`];
}
