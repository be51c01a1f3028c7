// The entry: words in, exit code out.

import { parseArguments, type Arguments } from './args.ts';
import { messageOf } from '../lib/message-of.ts';
import { EXIT_FAILURE, EXIT_STOPPED, EXIT_USAGE, UsageError } from './errors.ts';
import { COMMANDS, type Command } from './flag.ts';
import { OPERANDS } from './flags.ts';
import { helpText } from './help.ts';
import { RulesError } from '../rules/rules-error.ts';
import { SourceError } from '../source/source-error.ts';

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  try {
    const [first = 'help', ...rest] = words;
    if (first === '--help' || first === '-h') return help([]);
    if (first === '--version') return await run('version', parseArguments('version', []));
    const command = toCommand(first);
    if (command === 'help') return help(rest);
    if (rest.includes('--help') || rest.includes('-h')) return help([command]);
    const args = parseArguments(command, rest);
    const [operand] = args.operands;
    if (operand !== undefined && OPERANDS[command] === undefined) {
      throw new UsageError(`\`fairlead ${command}\` takes flags only, not "${operand}"`);
    }
    return await run(command, args);
  } catch (error) {
    const usage = isUsage(error);
    process.stderr.write(`fairlead: ${usage ? messageOf(error) : describe(error)}\n`);
    return usage ? EXIT_USAGE : EXIT_FAILURE;
  }
}

function help(words: readonly string[]): number {
  const [word] = words;
  process.stdout.write(helpText(word === undefined ? undefined : toCommand(word)));
  return EXIT_STOPPED;
}

function toCommand(word: string): Command {
  const command = COMMANDS.find((candidate) => candidate === word);
  if (command) return command;
  throw new UsageError(`unknown command "${word}". There are: ${COMMANDS.join(', ')}. See \`fairlead help\`.`);
}

/** Each command is loaded when it is asked for, so that none pays for the others. */
async function run(command: Exclude<Command, 'help'>, args: Arguments): Promise<number> {
  switch (command) {
    case 'up':
      return (await import('./commands/up.ts')).up(args);
    case 'proxy':
      return (await import('./commands/proxy.ts')).proxy(args);
    case 'dns':
      return (await import('./commands/dns.ts')).dns(args);
    case 'ingress':
      return (await import('./commands/ingress.ts')).ingress(args);
    case 'render':
      return (await import('./commands/render.ts')).render(args);
    case 'state':
      return (await import('./commands/state.ts')).state(args);
    case 'explain':
      return (await import('./commands/explain.ts')).explain(args);
    case 'trace':
      return (await import('./commands/trace.ts')).trace(args);
    case 'completion':
      return (await import('./commands/completion.ts')).completion(args);
    case 'cleanup':
      return (await import('./commands/cleanup.ts')).cleanup(args);
    case 'version':
      return (await import('./commands/version.ts')).version();
  }
}

/** A flag that is wrong, or that asks for what this machine or this source cannot be. */
function isUsage(error: unknown): boolean {
  if (error instanceof UsageError || error instanceof RulesError) return true;
  return error instanceof SourceError && error.code !== 'credentials-failed';
}

/** What we throw for users is a sentence; anything else is a bug, and its stack helps to mend it. */
function describe(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
