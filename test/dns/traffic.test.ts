// What clients see while the server is reloaded, stopped and asked for too much.

import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test } from 'vitest';
import { toolPath } from '../support/debian-tools.ts';
import { freePort } from '../support/free-port.ts';
import { until } from '../support/until.ts';
import { serveCorefile, type CorefileServer } from './corefile-plane.ts';
import { RCODE } from '../../src/dns/wire/types.ts';
import { ask } from './ask.ts';
import { dig } from './dig.ts';
import { startFakeUpstream, startHeldUpstream } from './fake-upstream.ts';

const run = promisify(execFile);
const missing = toolPath('dnsperf') === undefined ? 'no dnsperf: apt-get install dnsperf' : undefined;
if (missing) console.log(`skipped: DNS under traffic: ${missing}`);

const servers: CorefileServer[] = [];
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
  await Promise.all(closing.splice(0).map((close) => close()));
});

interface Load {
  readonly sent: number;
  readonly completed: number;
  readonly codes: string;
}

/** dnsperf for so many seconds, at a rate that a busy machine bears. */
async function dnsperf(
  port: number,
  seconds: number,
  names: readonly string[],
  ...more: readonly string[]
): Promise<Load> {
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-load-'));
  closing.push(() => rm(folder, { recursive: true }));
  const file = join(folder, 'questions');
  await writeFile(file, names.map((name) => `${name} A\n`).join(''));
  const words = ['-s', '127.0.0.1', '-p', String(port), '-d', file, '-l', String(seconds), '-Q', '500', '-c', '8'];
  const { stdout } = await run('dnsperf', [...words, '-t', '5', ...more], { timeout: 60_000 });
  const number = (label: string): number => Number(new RegExp(`${label}:\\s+([0-9]+)`).exec(stdout)?.[1]);
  return {
    sent: number('Queries sent'),
    completed: number('Queries completed'),
    codes: /Response codes:\s+(.*)/.exec(stdout)?.[1] ?? '',
  };
}

function corefile(port: number, more = ''): string {
  return `.:${port} {
  bind 127.0.0.1
  health 127.0.0.1:8080 {
    lameduck 1s
  }
  kubernetes cluster.local
  reload 2s 0s
${more}
}
`;
}

const NAMES = ['web.shop.svc.cluster.local', 'db.shop.svc.cluster.local', 'crowd.shop.svc.cluster.local'];

test.skipIf(missing).each([
  ['UDP', []],
  ['TCP', ['-m', 'tcp']],
] as const)(
  'no query over %s is lost while the Corefile changes and one thread answers for the other',
  async (_, mode) => {
    const port = await freePort();
    const server = await serveCorefile(corefile(port), { workers: 2 });
    servers.push(server);
    const load = dnsperf(port, 5, NAMES, ...mode);
    await server.rewrite(corefile(port, '  loadbalance'));
    await until(() => server.lines.some((line) => line.includes('is in force')));
    await server.rewrite(corefile(port, '  minimal'));
    const { sent, completed, codes } = await load;
    expect(server.lines.filter((line) => line.includes('is in force')).length).toBeGreaterThan(0);
    expect(sent).toBeGreaterThan(100);
    expect(completed).toBe(sent);
    expect(codes).toMatch(/^NOERROR \d+ \(100\.00%\)$/);
  },
);

test('a question that waits for upstream while the Corefile changes is answered as if nothing had happened', async () => {
  const upstream = await startHeldUpstream();
  closing.push(() => upstream.close());
  const port = await freePort();
  const forward = `  forward . ${upstream.server.address}:${upstream.server.port}`;
  const server = await serveCorefile(corefile(port, forward), {});
  servers.push(server);
  await server.rewrite(corefile(port, `${forward}\n  minimal`));
  const told: Promise<number | 'lost'>[] = [];
  await until(async () => {
    told.push(ask({ address: '127.0.0.1', port }, `host-${told.length}.example.test`, 20_000));
    await new Promise((resolve) => setTimeout(resolve, 80));
    return server.lines.some((line) => line.includes('is in force'));
  });
  upstream.release();
  // The oldest may have waited for longer than a question waits for upstream.
  expect(await Promise.all(told.slice(-5))).toEqual(Array.from({ length: 5 }, () => RCODE.NOERROR));
});

test('in its lameduck time it answers as ever, and nothing that it took is left without an answer', async () => {
  const port = await freePort();
  const server = await serveCorefile(corefile(port), { workers: 2 });
  const told: { readonly at: number; readonly status: string | undefined }[] = [];
  const over = new AbortController();
  const asking = (async () => {
    while (!over.signal.aborted) {
      const { status } = await dig({ address: '127.0.0.1', port }, NAMES[0] ?? '');
      told.push({ at: performance.now(), status });
    }
  })();
  await until(() => told.length > 2);
  const start = performance.now();
  await server.stop();
  over.abort();
  await asking;
  const last = told.findLastIndex(({ status }) => status === 'NOERROR');
  // A second in which everything is answered, whatever comes behind it.
  expect((told[last]?.at ?? 0) - start).toBeGreaterThan(500);
  expect(performance.now() - start).toBeGreaterThan(1000);
  expect(new Set(told.slice(0, last + 1).map(({ status }) => status))).toEqual(new Set(['NOERROR']));
});

test.skipIf(missing)(
  'with an upstream that is silent, what is too much is refused at once and the cluster is answered all the while',
  async () => {
    const silent = await startFakeUpstream(() => []);
    closing.push(() => silent.close());
    const port = await freePort();
    const forward = `  forward . ${silent.server.address}:${silent.server.port} {\n    max_concurrent 20\n  }`;
    const server = await serveCorefile(corefile(port, forward), { workers: 2 });
    servers.push(server);
    const outside = Array.from({ length: 500 }, (_, i) => `host-${i}.example.test`);
    const flood = dnsperf(port, 3, outside);
    const load = await dnsperf(port, 2, NAMES);
    expect(load.completed).toBe(load.sent);
    expect(load.codes).toMatch(/^NOERROR \d+ \(100\.00%\)$/);
    expect((await flood).codes).toMatch(/REFUSED \d+/);
    expect(await server.metrics.text()).toMatch(/coredns_forward_max_concurrent_rejects_total [1-9]/);
  },
);
