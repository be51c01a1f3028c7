// How soon a new Service has its name: on every thread, through a cache that has said that it does not exist, and after the API server was away.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { RCODE } from '../../src/dns/wire/types.ts';
import { askOften } from '../dns/ask.ts';
import type { Server } from '../dns/dig.ts';
import { startTestApiServer } from '../support/api-server/server.ts';
import { freePort } from '../support/free-port.ts';
import { FairleadProcess } from '../support/process.ts';
import { SLOWNESS } from '../support/slowness.ts';
import { until } from '../support/until.ts';

/** Ours is under a second on a machine that has time for it. CoreDNS gives the old answer for 5 s, as long as its cache keeps a name that is not there. */
const BOUND_MS = 4000 * SLOWNESS;
/** By then an API server that cannot be reached is asked every few seconds only, by those that wait twice as long each time. */
const OUTAGE_MS = 5000;

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function service(name: string, clusterIP: string) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name },
    spec: { type: 'ClusterIP', clusterIP, clusterIPs: [clusterIP], ports: [{ port: 80 }] },
  };
}

/** Until every asker is told that the name is there: when the last question was sent that was still told otherwise, or lost. */
async function lastStale(server: Server, name: string): Promise<number> {
  let stale = -Infinity;
  await until(async () => {
    const sentAt = performance.now();
    const told = await askOften(server, name);
    if (told.size === 1 && told.has(RCODE.NOERROR)) return true;
    stale = sentAt;
    return false;
  });
  return stale;
}

test('a new Service has its name at once on every thread, after an NXDOMAIN and after an API outage', async () => {
  const api = await startTestApiServer();
  closing.push(() => api.stop());
  // At a port that nobody else is given while it is away.
  await api.stop();
  await api.listen(await freePort());
  const folder = await mkdtemp(join(tmpdir(), 'fairlead-freshness-'));
  closing.push(() => rm(folder, { recursive: true }));
  const server = { address: '127.0.0.1', port: await freePort() };
  const corefile = `.:${server.port} {
    bind ${server.address}
    errors
    kubernetes cluster.local {
        endpoint ${api.url}
    }
    cache 30
    loadbalance
}
`;
  await writeFile(join(folder, 'Corefile'), corefile);
  const words = ['dns', '-conf', join(folder, 'Corefile'), '--workers=2', '--logging-format=json'];
  const running = new FairleadProcess(words);
  closing.push(() => running.close());
  await running.logged(({ message }) => message === 'cluster names are answered');
  const [first, second] = ['first.shop.svc.cluster.local', 'second.shop.svc.cluster.local'];
  for (const name of [first, second]) {
    await until(async () => {
      const told = await askOften(server, name);
      return told.size === 1 && told.has(RCODE.NXDOMAIN);
    });
  }

  let since = performance.now();
  api.apply(service('first', '10.96.88.1'));
  expect((await lastStale(server, first)) - since).toBeLessThan(BOUND_MS);

  await api.stop();
  await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
  // It goes on with what it knows.
  expect(await askOften(server, first)).toEqual(new Set([RCODE.NOERROR]));
  expect(await askOften(server, second)).toEqual(new Set([RCODE.NXDOMAIN]));
  api.apply(service('second', '10.96.88.2'));
  since = performance.now();
  await api.listen();
  expect((await lastStale(server, second)) - since).toBeLessThan(BOUND_MS);
});
