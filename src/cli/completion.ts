// Completion scripts, made of the list of flags: commands first, then the flags of the command; folders and files where a flag takes one.

import { COMMANDS, type Command, type Flag } from './flag.ts';
import { FLAGS } from './flags.ts';
import { SUMMARY } from './help.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell): string {
  switch (shell) {
    case 'bash':
      return bash();
    case 'zsh':
      return zsh();
    case 'fish':
      return fish();
  }
}

/** Words that a command takes beside flags, where they can be listed. */
const OPERANDS: Partial<Record<Command, readonly string[]>> = {
  explain: ['service', 'ingress', 'name'],
  completion: SHELLS,
  help: COMMANDS,
};

function flagsOf(command: Command): readonly Flag[] {
  return FLAGS.filter(({ commands }) => commands.includes(command));
}

function dashed(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}

function wordsOf(command: Command): readonly string[] {
  const flags = flagsOf(command).flatMap((flag) => [flag.name, ...(flag.aliases ?? [])].map(dashed));
  return [...(OPERANDS[command] ?? []), ...flags];
}

function flagsTaking(value: string): string {
  return FLAGS.filter((flag) => flag.value === value)
    .map(({ name }) => dashed(name))
    .join('|');
}

function bash(): string {
  const cases = COMMANDS.map((command) => `    ${command}) words='${wordsOf(command).join(' ')}' ;;`);
  return `# bash completion of fairlead. Load it with: source <(fairlead completion bash)
_fairlead() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} words=''
  COMPREPLY=()
  case $before in
    ${flagsTaking('DIR')}) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    ${flagsTaking('FILE')}) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
  esac
  if [[ $COMP_CWORD -eq 1 ]]; then
    words='${COMMANDS.join(' ')}'
  else case \${COMP_WORDS[1]} in
${cases.join('\n')}
  esac; fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _fairlead fairlead
`;
}

/** Text inside single quotes in zsh and fish. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function zsh(): string {
  const commands = COMMANDS.map((command) => `    ${quoted(`${command}:${SUMMARY[command]}`)}`);
  const cases = COMMANDS.map((command) => {
    const operands = OPERANDS[command] ?? [];
    const flags = flagsOf(command).flatMap((flag) =>
      [flag.name, ...(flag.aliases ?? [])].map((name) => `      ${quoted(zshFlag(flag, name))}`),
    );
    const rest = operands.length > 0 ? [`      ${quoted(`*:word:(${operands.join(' ')})`)}`] : [];
    return [
      `    ${command}) _arguments \\`,
      [...flags, ...rest, `      ${quoted('--help[the flags]')}`].join(' \\\n'),
      '      ;;',
    ].join('\n');
  });
  return `#compdef fairlead
# zsh completion of fairlead. Put it into a folder of $fpath as _fairlead, or: source <(fairlead completion zsh)
_fairlead() {
  local -a commands
  commands=(
${commands.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join('\n')}
  esac
}
if [[ $funcstack[1] == _fairlead ]]; then _fairlead "$@"; else compdef _fairlead fairlead; fi
`;
}

function zshFlag(flag: Flag, name: string): string {
  const help = flag.help.replaceAll(/[[\]:]/g, (special) => `\\${special}`);
  const repeat = flag.kind === 'list' ? '*' : '';
  if (flag.kind === 'switch') return `${repeat}${dashed(name)}[${help}]`;
  const action = flag.value === 'DIR' ? '_files -/' : flag.value === 'FILE' ? '_files' : '';
  return `${repeat}${dashed(name)}=[${help}]:${(flag.value ?? 'VALUE').replaceAll(/[[\]:]/g, '')}:${action}`;
}

function fish(): string {
  const commands = COMMANDS.map(
    (command) => `complete -c fairlead -n __fish_use_subcommand -f -a ${command} -d ${quoted(SUMMARY[command])}`,
  );
  const operands = Object.entries(OPERANDS).map(
    ([command, words]) => `complete -c fairlead -n '__fish_seen_subcommand_from ${command}' -f -a '${words.join(' ')}'`,
  );
  const flags = FLAGS.flatMap((flag) =>
    [flag.name, ...(flag.aliases ?? [])].map((name) => {
      const option = name.length === 1 ? `-s ${name}` : `-l ${name}`;
      const value = flag.kind === 'switch' ? '' : flag.value === 'DIR' || flag.value === 'FILE' ? ' -r -F' : ' -x';
      return `complete -c fairlead -n '__fish_seen_subcommand_from ${flag.commands.join(' ')}' ${option}${value} -d ${quoted(flag.help)}`;
    }),
  );
  return [
    '# fish completion of fairlead. Load it with: fairlead completion fish | source',
    ...commands,
    ...operands,
    ...flags,
    '',
  ].join('\n');
}
