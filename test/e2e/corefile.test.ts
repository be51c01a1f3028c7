// `fairlead dns -conf FILE`, as a process.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { dig } from '../dns/dig.ts';
import { freePort } from '../support/free-port.ts';
import { FairleadProcess, runFairlead } from '../support/process.ts';
import { until } from '../support/until.ts';

vi.setConfig({ testTimeout: 30_000 });

let folder = '';
const processes: FairleadProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-corefile-'));
});

afterEach(async () => {
  await Promise.all(processes.splice(0).map((each) => each.close()));
  rmSync(folder, { recursive: true });
});

function corefile(text: string): string {
  const path = join(folder, 'Corefile');
  writeFileSync(path, text);
  return path;
}

const status = (url: string): Promise<number> =>
  fetch(url).then(
    (response) => response.status,
    () => 0,
  );

test('what the Corefile says is served, and answered on while it stops', async () => {
  const [dns, health, ready, metrics] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const path = corefile(`.:${dns} {
  bind 127.0.0.1
  errors
  health 127.0.0.1:${health} {
    lameduck 2s
  }
  ready 127.0.0.1:${ready}
  prometheus 127.0.0.1:${metrics}
  kubernetes cluster.local
  chaos
}
`);
  const pidfile = join(folder, 'pid');
  const running = new FairleadProcess([
    'dns',
    '-conf',
    path,
    '-pidfile',
    pidfile,
    '--manifests',
    'deploy/examples/cafe',
  ]);
  processes.push(running);
  const server = { address: '127.0.0.1', port: dns };
  await until(
    async () => ((await status(`http://127.0.0.1:${ready}/ready`)) === 200 ? true : undefined),
    30_000,
    () => running.stderr,
  );
  expect((await dig(server, 'cluster.local', 'SOA')).status).toBe('NOERROR');
  expect(await status(`http://127.0.0.1:${health}/health`)).toBe(200);
  expect(await status(`http://127.0.0.1:${metrics}/metrics`)).toBe(200);
  process.kill(Number(readFileSync(pidfile, 'utf8')), 'SIGTERM');
  await until(
    async () => ((await status(`http://127.0.0.1:${ready}/ready`)) === 503 ? true : undefined),
    2000,
    () => 'still ready',
  );
  expect((await dig(server, 'cluster.local', 'SOA')).status).toBe('NOERROR');
  expect(await running.exited).toMatchObject({ code: 0 });
});

test('a Corefile with a mistake ends with code 2 and its line', async () => {
  const path = corefile('.:53 {\n  errors\n  dnssec\n}\n');
  const { code, stderr } = await runFairlead(['dns', '-conf', path]);
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: `fairlead: ${path}:3: the plugin "dnssec" is known and not built yet; remove it\n`,
  });
});

test('flags that the Corefile stands for are refused beside it', async () => {
  const { code, stderr } = await runFairlead(['dns', '-conf', corefile('whoami\n'), '--upstream', '192.0.2.1']);
  expect(code).toBe(2);
  expect(stderr).toMatch(/--conf and --upstream exclude each other/);
});

test('the version and the plugins are printed', async () => {
  expect((await runFairlead(['dns', '-version'])).stdout).toMatch(/^fairlead \d/);
  expect((await runFairlead(['dns', '-plugins'])).stdout).toContain('dns.kubernetes\n');
});
