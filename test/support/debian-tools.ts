// The Debian tools that tests need: which are there, and how the rest is installed.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Program → the Debian package that brings it. */
export type Tools = ReadonlyMap<string, string>;

/** Those that are not on this machine. */
export function missingTools(tools: Tools): Tools {
  return new Map([...tools].filter(([tool]) => toolPath(tool) === undefined));
}

/** Where a program is; undefined when it is nowhere. */
export function toolPath(tool: string): string | undefined {
  const dirs = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return dirs.map((dir) => join(dir, tool)).find((path) => existsSync(path));
}

/** Installs packages with apt-get, as root; says so when that fails, and goes on. */
export function installPackages(packages: readonly string[]): void {
  if (toolPath('apt-get') === undefined) {
    console.log(`No apt-get here: install ${packages.join(', ')} by hand.`);
    return;
  }
  console.log(`Installing ${packages.join(', ')}`);
  for (const args of [
    ['-qq', 'update'],
    ['-qq', 'install', '-y', '--no-install-recommends', ...packages],
  ]) {
    const { status } = spawnSync('apt-get', args, {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    if (status !== 0) console.log(`apt-get ${args.slice(0, 3).join(' ')} ended with ${status}`);
  }
}

/** `tool (Debian package name), …`. */
export function describeTools(tools: Tools): string {
  return [...tools].map(([tool, name]) => `${tool} (Debian package ${name})`).join(', ');
}
