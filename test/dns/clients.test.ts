// Clients as they are in clusters: glibc with a Pod's search path, and dnsperf.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startFakeUpstream, type FakeUpstream } from './fake-upstream.ts';
import { startSetup, upstreamAnswer, type SetupWorld } from './setup-world.ts';

const run = promisify(execFile);
const KUBEADM = `.:PORT {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    forward . UPSTREAM {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`;

let folder = '';
let upstream: FakeUpstream;
let world: SetupWorld | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fairlead-clients-'));
  upstream = await startFakeUpstream(upstreamAnswer);
});

afterEach(async () => {
  await world?.close();
  world = undefined;
  await upstream.close();
  rmSync(folder, { recursive: true });
});

async function serve(corefile: string): Promise<SetupWorld> {
  world = await startSetup({ corefile }, `${upstream.server.address}:${upstream.server.port}`);
  return world;
}

// glibc asks port 53 alone, and reads one file: a mount namespace gives it another one.
describe.runIf(process.getuid?.() === 0)('getent in a Pod', () => {
  test('finds short names, long names and names outside by ndots:5 and the search path', async () => {
    const address = '127.83.7.53';
    await serve(KUBEADM.replace('.:PORT {\n', `.:53 {\n    bind ${address}\n`));
    const resolvConf = join(folder, 'resolv.conf');
    const search = 'shop.svc.cluster.local svc.cluster.local cluster.local';
    writeFileSync(resolvConf, `nameserver ${address}\nsearch ${search}\noptions ndots:5 timeout:5 attempts:1\n`);
    const hosts = join(folder, 'hosts');
    writeFileSync(hosts, '');
    const script = `mount --bind ${resolvConf} /etc/resolv.conf && mount --bind ${hosts} /etc/hosts && getent ahostsv4 "$0"`;
    const getent = async (name: string): Promise<string | undefined> => {
      const { stdout } = await run('unshare', ['--mount', 'sh', '-c', script, name]);
      return /^(\S+)\s+STREAM/m.exec(stdout)?.[1];
    };
    expect(await getent('web')).toBe('10.96.10.1');
    expect(await getent('kube-dns.kube-system')).toBe('10.96.0.10');
    expect(await getent('web.shop.svc.cluster.local')).toBe('10.96.10.1');
    expect(await getent('www.example.test')).toBe('192.0.2.53');
    await expect(getent('nosuch')).rejects.toMatchObject({ code: 2 });
  });
});

test('dnsperf gets an answer to every question', async () => {
  const { server } = await serve(KUBEADM);
  const file = join(folder, 'queries');
  const names = [
    'web.shop.svc.cluster.local A',
    'nosuch.shop.svc.cluster.local AAAA',
    'www.example.test A',
    'web.shop.svc.cluster.local SRV',
  ];
  writeFileSync(file, `${names.join('\n')}\n`);
  const words = ['-s', server.address, '-p', String(server.port), '-d', file, '-n', '500', '-q', '20', '-t', '10'];
  const { stdout } = await run('dnsperf', words);
  expect(stdout).toMatch(/Queries completed:\s+2000 \(100\.00%\)/);
  expect(stdout).toMatch(/NOERROR 1500 \(75\.00%\), NXDOMAIN 500 \(25\.00%\)/);
});
