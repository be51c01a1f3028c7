import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createNamespace, netnsMissing, removeNamespace, type Host } from '../support/netns.ts';
import { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const missing = netnsMissing('dig');
if (missing) console.log(`skipped: a node's own DNS server: ${missing}`);

const ADDRESSES = '169.254.20.10,10.96.0.10,fd00:10:96::a';
const COREFILE = `cluster.local:53 {
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    kubernetes cluster.local
    loadbalance
}
example.org:53 {
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    errors
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
}
`;
const SERVICE = `apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web}
spec:
  clusterIP: 10.96.10.1
  clusterIPs: [10.96.10.1]
  ports: [{name: http, port: 80}]
`;

describe.skipIf(missing !== undefined)("a node's own DNS server", () => {
  let node: Host;
  let folder: string;
  const running: FairleadProcess[] = [];

  beforeAll(async () => {
    node = await createNamespace('dns');
    folder = await mkdtemp(join(tmpdir(), 'fairlead-node-'));
    await mkdir(join(folder, 'manifests'));
    await writeFile(join(folder, 'manifests', 'web.yaml'), SERVICE);
    await writeFile(join(folder, 'Corefile.base'), COREFILE);
    // What glibc inside the namespace reads (ip-netns(8)).
    await mkdir(`/etc/netns/${node.namespace}`, { recursive: true });
    await writeFile(
      `/etc/netns/${node.namespace}/resolv.conf`,
      'nameserver 169.254.20.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n',
    );
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((one) => one.close()));
  });

  afterAll(async () => {
    await rm(`/etc/netns/${node.namespace}`, { recursive: true });
    await removeNamespace(node);
    await rm(folder, { recursive: true });
  });

  async function start(...more: readonly string[]): Promise<FairleadProcess> {
    const template = ['-conf', join(folder, 'Corefile'), '-basecorefile', join(folder, 'Corefile.base')];
    const flags = ['-localip', ADDRESSES, '-upstreamsvc', 'kube-dns-upstream', '-syncinterval', '1', '--workers', '1'];
    const source = ['--manifests', join(folder, 'manifests'), '--logging-format', 'json'];
    const env = { KUBE_DNS_UPSTREAM_SERVICE_HOST: '10.96.0.99' };
    const one = new FairleadProcess(['dns', ...template, ...flags, ...source, ...more], {
      namespace: node.namespace,
      env,
    });
    running.push(one);
    await one.logged(({ message }) => message === 'cluster names are answered');
    return one;
  }

  async function stop(one: FairleadProcess): Promise<void> {
    one.kill();
    expect(await one.exited).toEqual({ code: 0, signal: null });
  }

  const addresses = (): Promise<string> => node.run('ip', '-o', 'address', 'show');
  const rules = (): Promise<string> => node.run('nft', 'list', 'ruleset');

  test('has its addresses, keeps DNS out of conntrack, answers the cluster with nothing else there, and leaves the node as it was', async () => {
    const one = await start();
    await until(async () => (await addresses()).includes('fd00:10:96::a/128'));
    for (const address of ['169.254.20.10', '10.96.0.10', 'fd00:10:96::a']) {
      const text = await until(async () => {
        const { stdout } = await node.exec.run('dig', [
          `@${address}`,
          '+tries=1',
          '+short',
          'web.shop.svc.cluster.local',
        ]);
        return stdout.startsWith('10.') ? stdout : undefined;
      });
      expect(text.trim()).toBe('10.96.10.1');
    }
    // As a Pod resolves: by the search path, with and without an answer.
    expect(await node.run('getent', 'ahostsv4', 'web')).toMatch(/^10\.96\.10\.1\s+STREAM web/);
    expect((await node.exec.run('getent', ['ahostsv4', 'nosuch'])).exitCode).toBe(2);
    expect(await node.run('getent', 'ahostsv4', 'web.shop.svc.cluster.local')).toContain('10.96.10.1');
    // The other zone's servers are not there: SERVFAIL, in bounded time, and the cluster is answered all the while.
    expect(await node.run('dig', '@169.254.20.10', '+tries=1', '+time=8', 'www.example.org')).toContain('SERVFAIL');
    expect(await rules()).toContain('th dport 53 notrack');
    // Somebody takes the rules and an address away: both are there again.
    await node.run('nft', 'flush', 'ruleset');
    const device = /^\d+: (\S+)\s+inet 169\.254\.20\.10\/32/m.exec(await addresses())?.[1] ?? '';
    await node.run('ip', 'address', 'delete', '10.96.0.10/32', 'dev', device);
    await until(async () => (await rules()).includes('notrack') && (await addresses()).includes('10.96.0.10/32'));
    await stop(one);
    expect(await rules()).toBe('');
    expect(await addresses()).not.toMatch(/169\.254\.20\.10|10\.96\.0\.10|fd00:10:96::a/);
  });

  test('--skipteardown leaves addresses and rules for the next one, which takes them over', async () => {
    await stop(await start('--skipteardown'));
    expect(await rules()).toContain('notrack');
    expect(await addresses()).toContain('169.254.20.10/32');
    const next = await start();
    expect(await node.run('getent', 'ahostsv4', 'web')).toContain('10.96.10.1');
    await stop(next);
    expect(await rules()).toBe('');
    expect(await addresses()).not.toContain('169.254.20.10');
  });

  test('says what is wrong with its flags, and with what the template wants', async () => {
    const mistake = async (words: readonly string[]): Promise<string> => {
      const one = new FairleadProcess(['dns', ...words], { namespace: node.namespace });
      running.push(one);
      expect(await one.exited).toEqual({ code: 2, signal: null });
      return one.stderr;
    };
    expect(await mistake(['-localip', 'dns'])).toContain('169.254.20.10');
    expect(await mistake(['-skipteardown'])).toContain('--localip');
    expect(await mistake(['-localip', '169.254.20.10', '-syncinterval', '0'])).toContain('--syncinterval');
    const base = ['-conf', '/nowhere', '-basecorefile', join(folder, 'Corefile.base'), '-setupinterface=false'];
    expect(await mistake(['-localip', '169.254.20.10', '-upstreamsvc', 'other-dns', ...base])).toContain(
      'OTHER_DNS_SERVICE_HOST',
    );
    expect(await rules()).toBe('');
  });
});
