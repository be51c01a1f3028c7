// What a command and a flag are.

export const COMMANDS = [
  'up',
  'proxy',
  'dns',
  'ingress',
  'render',
  'state',
  'explain',
  'trace',
  'completion',
  'cleanup',
  'version',
  'help',
] as const;
export type Command = (typeof COMMANDS)[number];

export type FlagKind = 'text' | 'switch' | 'list';

/** One for all commands that have the flag, or each its own. */
export type ForCommands = string | Partial<Readonly<Record<Command, string>>>;

export interface Flag {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** `text` takes one value, the last one counts; `list` may be repeated or hold commas; `switch` is true, or `=false`. */
  readonly kind: FlagKind;
  readonly value?: string;
  readonly help: string;
  readonly commands: readonly Command[];
  /** As the help prints it. What applies where none is given stands in `settings.ts`. */
  readonly fallback?: ForCommands;
  /** It is taken for the sake of old command lines. */
  readonly withoutEffect?: true;
}

/** A flag that one command alone has. */
export function flagOf(
  command: Command,
  kind: FlagKind,
  name: string,
  help: string,
  rest: Pick<Flag, 'value' | 'fallback'> = {},
): Flag {
  return { name, kind, help, commands: [command], ...rest };
}

/** A flag that is taken, and does nothing. */
export function flagWithoutEffect(command: Command, kind: FlagKind, name: string, value?: string): Flag {
  const flag = flagOf(command, kind, name, 'taken for the sake of old command lines; has no effect here');
  return { ...flag, ...(value === undefined ? {} : { value }), withoutEffect: true };
}

/** The names of those of them that do nothing. */
export function idleNames(flags: readonly Flag[]): readonly string[] {
  return flags.filter(({ withoutEffect }) => withoutEffect === true).map(({ name }) => name);
}

export function fallbackOf({ fallback }: Flag, command: Command): string | undefined {
  return typeof fallback === 'object' ? fallback[command] : fallback;
}
