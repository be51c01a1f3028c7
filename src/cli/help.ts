import { COMMANDS, fallbackOf, type Command, type Flag } from './flag.ts';
import { FLAGS, OPERANDS } from './flags.ts';

export const SUMMARY: Readonly<Record<Command, string>> = {
  up: 'run all three: Service rules, DNS and Ingress (a laptop, a test, an edge node)',
  proxy: "program this node so that Service addresses reach endpoints (kube-proxy's job)",
  dns: "answer cluster DNS and forward the rest (CoreDNS's job)",
  ingress: "route HTTP from outside by Ingress objects (ingress-nginx's job)",
  render: 'print the rules that would be programmed; touches nothing',
  state: "print the Snapshot and each plane's state as JSON",
  explain:
    'say why the traffic of a Service, or a request for a URL, goes where it goes, and why a name is answered as it is',
  trace: 'say what happens to one packet, step by step',
  completion: 'print a completion script for a shell',
  cleanup: 'remove everything that fairlead put into the kernel',
  version: 'print the version',
  help: 'print this, or the flags of one command',
};

export function helpText(command: Command | undefined): string {
  return command === undefined || command === 'help' ? overview() : commandHelp(command);
}

function overview(): string {
  const rows = COMMANDS.map((command) => `  ${command.padEnd(12)}${SUMMARY[command]}`);
  return [
    "fairlead carries a Kubernetes cluster's Service traffic.",
    '',
    'Usage: fairlead COMMAND [FLAGS]',
    '',
    ...rows,
    '',
    'Flags of a command: fairlead help COMMAND',
    'Exit codes: 0 stopped as asked, 1 a failure, 2 wrong usage or configuration.',
    '',
  ].join('\n');
}

function commandHelp(command: Command): string {
  const flags = FLAGS.filter(({ commands }) => commands.includes(command));
  const [idle, useful] = [flags.filter(hasNoEffect), flags.filter((flag) => !hasNoEffect(flag))];
  const rows = useful.map((flag) => {
    const fallback = fallbackOf(flag, command);
    return `  ${namesOf(flag)}\n      ${flag.help}${fallback === undefined ? '' : ` (default: ${fallback})`}`;
  });
  const operands = OPERANDS[command];
  return [
    `fairlead ${command}: ${SUMMARY[command]}`,
    '',
    `Usage: fairlead ${command}${operands === undefined ? '' : ` ${operands}`}${rows.length > 0 ? ' [FLAGS]' : ''}`,
    ...(rows.length > 0 ? ['', ...rows] : []),
    ...(idle.length > 0 ? ['', 'Taken for the sake of old command lines, without effect:', ''] : []),
    ...idle.map((flag) => `  ${namesOf(flag)}`),
    '',
  ].join('\n');
}

function hasNoEffect({ withoutEffect }: Flag): boolean {
  return withoutEffect === true;
}

function namesOf({ name, aliases = [], value }: Flag): string {
  const names = [name, ...aliases].map((each) => (each.length === 1 ? `-${each}` : `--${each}`));
  return names.join(', ') + (value === undefined ? '' : ` ${value}`);
}
