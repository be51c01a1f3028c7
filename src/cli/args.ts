// Command-line words → flag values. One dash or two (CoreDNS writes `-dns.port`, kube-proxy `--v`), a value after `=` or in
// the next word, `--switch=false`: as the programs that are replaced read theirs.

import { nearestName } from '../lib/edit-distance.ts';
import { UsageError } from './errors.ts';
import type { Command, Flag } from './flag.ts';
import { FLAGS } from './flags.ts';

export interface Arguments {
  /** Words that are no flags. */
  readonly operands: readonly string[];
  text(name: string): string | undefined;
  list(name: string): readonly string[] | undefined;
  isSet(name: string): boolean | undefined;
  /** The names of the flags that were given, each once. */
  readonly given: readonly string[];
}

export function parseArguments(command: Command, words: readonly string[]): Arguments {
  const values = new Map<string, string[]>();
  const operands: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? '';
    if (word === '--') {
      operands.push(...words.slice(i + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      operands.push(word);
      continue;
    }
    const { name, inline } = splitWord(word);
    const flag = findFlag(command, name);
    if (flag.kind === 'switch') {
      values.set(flag.name, [inline ?? 'true']);
      continue;
    }
    const value = inline ?? words[++i];
    if (value === undefined) {
      throw new UsageError(`flag --${name} needs a value: --${name} ${flag.value ?? 'VALUE'}`);
    }
    if (flag.kind === 'text') values.set(flag.name, [value]);
    else values.set(flag.name, [...(values.get(flag.name) ?? []), ...splitList(flag, value)]);
  }
  return {
    operands,
    text: (name) => values.get(name)?.[0],
    list: (name) => values.get(name),
    isSet: (name) => toSwitch(name, values.get(name)?.[0]),
    given: [...values.keys()],
  };
}

function splitWord(word: string): { name: string; inline: string | undefined } {
  const bare = word.replace(/^--?/, '');
  const equals = bare.indexOf('=');
  if (equals >= 0) return { name: bare.slice(0, equals), inline: bare.slice(equals + 1) };
  // klog's short form: -v4
  const short = /^v(\d+)$/.exec(bare);
  return short ? { name: 'v', inline: short[1] } : { name: bare, inline: undefined };
}

/** A folder's name may hold a comma. */
function splitList(flag: Flag, value: string): readonly string[] {
  if (flag.name === 'manifests') return [value];
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function toSwitch(name: string, value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  // As Go's strconv.ParseBool, which the programs that are replaced read theirs with.
  if (/^(1|t|T|true|TRUE|True)$/.test(value)) return true;
  if (/^(0|f|F|false|FALSE|False)$/.test(value)) return false;
  throw new UsageError(`flag --${name} is true or false, not "${value}"`);
}

function findFlag(command: Command, name: string): Flag {
  const named = FLAGS.filter((flag) => flag.name === name || flag.aliases?.includes(name));
  const flag = named.find(({ commands }) => commands.includes(command));
  if (flag) return flag;
  if (named.length > 0) {
    const where = named.flatMap(({ commands }) => commands).join(', ');
    throw new UsageError(`flag --${name} is not one of \`fairlead ${command}\`; it belongs to: ${where}`);
  }
  const near = nearestName(
    name,
    FLAGS.filter(({ commands }) => commands.includes(command)).map((other) => other.name),
  );
  const hint = near ? `; did you mean --${near}?` : '.';
  throw new UsageError(`unknown flag --${name} for \`fairlead ${command}\`${hint} See \`fairlead help ${command}\`.`);
}
