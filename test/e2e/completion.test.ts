import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { completionScript, type Shell } from '../../src/cli/completion.ts';
import { COMMANDS } from '../../src/cli/flag.ts';
import { FLAGS } from '../../src/cli/flags.ts';

const dir = mkdtempSync(join(tmpdir(), 'fairlead-completion-'));
afterAll(() => rmSync(dir, { recursive: true }));

const has = (shell: Shell): boolean => spawnSync(shell, ['-c', 'true']).status === 0;

function script(shell: Shell): string {
  const file = join(dir, `fairlead.${shell}`);
  writeFileSync(file, completionScript(shell));
  return file;
}

/** What bash offers for the last word. */
function offers(...words: readonly string[]): readonly string[] {
  const program = `source ${script('bash')}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fairlead; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const text = execFileSync('bash', ['-c', program, 'bash', 'fairlead', ...words], { encoding: 'utf8', cwd: dir });
  return text.split('\n').filter((line) => line !== '');
}

describe.each(has('bash') ? ['bash'] : [])('%s', () => {
  test('commands first, then the flags of the command', () => {
    expect(offers('')).toEqual(COMMANDS);
    expect(offers('re')).toEqual(['render']);
    const flags = FLAGS.filter(({ commands }) => commands.includes('trace')).map(({ name }) => `--${name}`);
    expect(offers('trace', '--')).toEqual(expect.arrayContaining(flags.filter((name) => name !== '--v')));
    expect(offers('trace', '--http')).toEqual([]);
  });

  test('operands, and folders behind a flag that takes one', () => {
    expect(offers('completion', '')).toEqual(expect.arrayContaining(['bash', 'zsh', 'fish']));
    expect(offers('explain', 's')).toEqual(['service']);
    expect(offers('up', '--manifests', tmpdir())).toContain(tmpdir());
  });
});

const withZsh = has('zsh') ? ['zsh'] : [];
test.each(withZsh)('%s reads its script', () => {
  const read = `autoload -U compinit; compinit -D; source ${script('zsh')}; print -r -- $_comps[fairlead]`;
  expect(execFileSync('zsh', ['-fc', read], { encoding: 'utf8' }).trim()).toBe('_fairlead');
});

const withFish = has('fish') ? ['fish'] : [];
test.each(withFish)('%s offers the flags of the command', () => {
  const ask = `source ${script('fish')}; complete -C 'fairlead trace --out'`;
  expect(execFileSync('fish', ['-c', ask], { encoding: 'utf8' })).toContain('--output');
});

test.each<Shell>(['bash', 'zsh', 'fish'])('%s: every flag is in the script, long names and short', (shell) => {
  const text = completionScript(shell);
  for (const { name, aliases = [] } of FLAGS) {
    for (const each of [name, ...aliases]) expect(text).toContain(shell === 'fish' ? ` ${each} ` : `-${each}`);
  }
});
