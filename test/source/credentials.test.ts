import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { silentLogger } from '../../src/observe/log.ts';
import { openApiConnection } from '../../src/source/api/connection.ts';
import { readCredentials, type ApiTarget } from '../../src/source/api/credentials.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/api-server/certificate.ts';
import { startTestApiServer } from '../support/api-server/server.ts';

let dir = '';

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fairlead-credentials-'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

interface Parts {
  readonly cluster?: object;
  readonly user?: object;
  readonly context?: object;
  readonly current?: string;
}

async function kubeconfig({ cluster, user, context, current }: Parts): Promise<string> {
  const file = join(dir, 'kubeconfig');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server: 'https://192.0.2.1:6443', ...cluster } }],
    users: user ? [{ name: 'u', user }] : [],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', ...context } }],
    'current-context': current ?? 'x',
  };
  await writeFile(file, JSON.stringify(config));
  return file;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('a token, a CA and a client certificate of a kubeconfig', async () => {
  const file = await kubeconfig({
    cluster: { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'api.example' },
    user: { token: 'secret', 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY') },
  });
  expect(await readCredentials({ kubeconfig: file })).toEqual({
    server: 'https://192.0.2.1:6443',
    caPem: 'CA',
    certPem: 'CERT',
    keyPem: 'KEY',
    token: 'secret',
    serverName: 'api.example',
    skipTlsVerify: false,
  });
});

test('a context that is named counts in place of the current one, and one that is not there is told', async () => {
  const file = await kubeconfig({ user: { token: 'secret' }, current: 'other' });
  expect((await readCredentials({ kubeconfig: file, context: 'x' })).token).toBe('secret');
  await expect(readCredentials({ kubeconfig: file, context: 'nosuch' })).rejects.toThrow(
    'it has no context "nosuch" (contexts: x)',
  );
});

test('certificate, key and CA from files for a server that is named by URL', async () => {
  for (const name of ['cert', 'key', 'ca']) await writeFile(join(dir, name), name);
  const tls = { cert: join(dir, 'cert'), key: join(dir, 'key'), ca: join(dir, 'ca') };
  const master = 'https://192.0.2.1:6443';
  const { certPem, keyPem, caPem, server } = await readCredentials({ master, tls });
  expect([certPem, keyPem, caPem, server]).toEqual(['cert', 'key', 'ca', master]);
  await expect(readCredentials({ master, tls: { ...tls, ca: '/nosuch' } })).rejects.toThrow(
    'the file /nosuch cannot be read',
  );
});

test('a token in a file beside the kubeconfig, as kubeadm writes it for kube-proxy', async () => {
  await writeFile(join(dir, 'token'), 'from-file\n');
  const file = await kubeconfig({ user: { tokenFile: 'token' } });
  const credentials = await readCredentials({ kubeconfig: file });
  expect(credentials.token).toBe('from-file');
  expect(credentials.tokenFile).toBe(join(dir, 'token'));
});

test('an exec plugin, with the time its token ends', async () => {
  const plugin = join(dir, 'plugin');
  const answer = {
    apiVersion: 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    status: { token: 'from-plugin', expirationTimestamp: '2030-01-01T00:00:00Z' },
  };
  await writeFile(plugin, `#!/bin/sh\ncat <<'END'\n${JSON.stringify(answer)}\nEND\n`);
  await chmod(plugin, 0o755);
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: plugin, interactiveMode: 'Never' };
  const credentials = await readCredentials({ kubeconfig: await kubeconfig({ user: { exec } }) });
  expect([credentials.token, credentials.expiresAt]).toEqual(['from-plugin', Date.UTC(2030, 0, 1)]);
});

test('a server without TLS is taken, and --master wins over the kubeconfig', async () => {
  const file = await kubeconfig({ cluster: { server: 'http://127.0.0.1:8001' } });
  const [own, other] = await Promise.all([
    readCredentials({ kubeconfig: file }),
    readCredentials({ kubeconfig: file, master: 'http://127.0.0.1:9000' }),
  ]);
  expect([own.server, other.server]).toEqual(['http://127.0.0.1:8001', 'http://127.0.0.1:9000']);
  expect((await readCredentials({ master: 'http://127.0.0.1:9000' })).server).toBe('http://127.0.0.1:9000');
});

test('the service account of a Pod', async () => {
  const account = join(dir, 'var/run/secrets/kubernetes.io/serviceaccount');
  await mkdir(account, { recursive: true });
  await writeFile(join(account, 'ca.crt'), 'CA');
  await writeFile(join(account, 'token'), 'bound');
  await writeFile(join(account, 'namespace'), 'kube-system');
  vi.stubEnv('KUBERNETES_SERVICE_HOST', 'fd00::1');
  vi.stubEnv('KUBERNETES_SERVICE_PORT', '443');
  expect(await readCredentials({ serviceAccountRoot: dir })).toMatchObject({
    server: 'https://[fd00::1]:443',
    caPem: 'CA',
    token: 'bound',
    tokenFile: join(account, 'token'),
  });
});

test.each<[string, () => Promise<ApiTarget>, string, string]>([
  ['nothing to go by', async () => ({}), 'not-in-cluster', 'give --kubeconfig FILE, --master URL, or --manifests DIR'],
  ['no such file', async () => ({ kubeconfig: join(dir, 'nosuch') }), 'kubeconfig-invalid', 'nosuch: no such file'],
  [
    'a file that is no kubeconfig',
    async () => {
      await writeFile(join(dir, 'kubeconfig'), 'clusters: [');
      return { kubeconfig: join(dir, 'kubeconfig') };
    },
    'kubeconfig-invalid',
    'not a kubeconfig',
  ],
  [
    'a context that is not there',
    async () => ({ kubeconfig: await kubeconfig({ current: 'other' }) }),
    'kubeconfig-invalid',
    'its current-context "other" leads to no cluster (contexts: x): set one with kubectl config use-context',
  ],
  [
    'a plugin that is not there',
    async () => ({ kubeconfig: await kubeconfig({ user: { exec: { command: '/nosuch/plugin' } } }) }),
    'credentials-failed',
    'ENOENT',
  ],
  [
    'impersonation that would be sent in part only',
    async () => ({ kubeconfig: await kubeconfig({ user: { token: 't', as: 'jane', 'as-groups': ['admins'] } }) }),
    'kubeconfig-invalid',
    'its user has as-groups, and of impersonation only `as` is supported: remove it',
  ],
  [
    'a cluster behind a proxy',
    async () => ({ kubeconfig: await kubeconfig({ cluster: { 'proxy-url': 'http://192.0.2.9:3128' }, user: {} }) }),
    'kubeconfig-invalid',
    'proxy-url http://192.0.2.9:3128',
  ],
  [
    'a --master that is no URL',
    async () => ({ master: 'localhost:8080' }),
    'server-url-invalid',
    '--master: "localhost:8080"',
  ],
])('%s is told with its place and the mend', async (_title, target, code, message) => {
  vi.stubEnv('KUBERNETES_SERVICE_HOST', '');
  await expect(readCredentials(await target())).rejects.toMatchObject({
    code,
    message: expect.stringContaining(message),
  });
});

test('a connection with TLS is verified by the CA of the kubeconfig', async () => {
  const server = await startTestApiServer({ tls: { cert: TEST_CERTIFICATE, key: TEST_KEY } });
  const connect = async (cluster: object): Promise<number> => {
    const file = await kubeconfig({ cluster: { server: server.url, ...cluster } });
    const connection = await openApiConnection({
      target: { kubeconfig: file },
      clock: systemClock,
      log: silentLogger,
      files: systemFiles,
    });
    try {
      const response = await connection.request({ path: '/api/v1/services' });
      await response.text();
      return response.status;
    } finally {
      connection.close();
    }
  };
  try {
    expect(await connect({ 'certificate-authority-data': base64(TEST_CERTIFICATE) })).toBe(200);
    expect(await connect({ 'insecure-skip-tls-verify': true })).toBe(200);
    await expect(connect({})).rejects.toMatchObject({ code: 'tls' });
  } finally {
    await server.stop();
  }
});
