// `npm start`, as a new user meets it: in a network namespace of its own, as its ports are fixed.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createNamespace, netnsMissing, removeNamespace, type Host } from '../support/netns.ts';
import { until } from '../support/until.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const missing = netnsMissing();

describe.skipIf(missing !== undefined)(`npm start${missing === undefined ? '' : ` (left out: ${missing})`}`, () => {
  let host: Host;
  let child: ChildProcess;
  let output = '';

  beforeAll(async () => {
    host = await createNamespace('start');
    child = spawn('ip', ['netns', 'exec', host.namespace, 'npm', 'start'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout?.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr?.on('data', (data: Buffer) => (output += data.toString()));
    await until(
      () => output.includes('Ctrl-C ends it'),
      30_000,
      () => output,
    );
  });

  afterAll(async () => {
    const ended = new Promise((resolve) => child.once('close', resolve));
    await host
      .run('sh', '-c', `kill -TERM $(ip netns pids ${host.namespace} | tr '\\n' ' ' | sed "s/\\b$$\\b//") || true`)
      .catch(() => '');
    await ended;
    await removeNamespace(host);
  });

  /** The commands and answers as they were printed: a command is indented by two, its answer by six. */
  function printed(): readonly { readonly command: string; readonly answer: string }[] {
    return [...output.matchAll(/^ {2}(\S.*)\n {6}(\S.*)$/gm)].map((match) => ({
      command: match[1] ?? '',
      answer: match[2] ?? '',
    }));
  }

  test('each printed command answers as printed', async () => {
    expect(printed().length).toBeGreaterThanOrEqual(8);
    for (const { command, answer } of printed()) {
      const { stdout } = await promisify(execFile)('ip', ['netns', 'exec', host.namespace, 'sh', '-c', command], {
        timeout: 30_000,
      });
      const expected = answer.replace(/ … and coffee-2 in turn$/, '').replace(/ …$/, '');
      expect(`${command}\n${stdout.replace('coffee-2', 'coffee-1')}`).toContain(`${command}\n${expected}`);
    }
  });
});
