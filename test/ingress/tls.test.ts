import { X509Certificate } from 'node:crypto';
import { connect, type TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { IngressListenError } from '../../src/ingress/listen-error.ts';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import { startIngressPlane } from '../../src/ingress/plane.ts';
import { createLogger, silentLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { systemExec } from '../../src/system/exec.ts';
import { LOOPBACK, exchange, httpPort, startBackend, startPlane } from './plane.ts';
import { ingress, service, snapshot, tlsSecret, type World } from './world.ts';
import { ip } from '../support/values.ts';

const LISTEN = { address: LOOPBACK, port: 0 };

function secretFor(name: string, host: string) {
  const { cert, key } = selfSigned(host, [host], Date.now(), 30);
  return tlsSecret(name, cert, key);
}

function world(endpoint: string): World {
  return {
    ingresses: [
      ingress({
        name: 'cafe',
        rules: [
          { host: 'cafe.example', paths: [{ service: 'echo' }] },
          { host: 'a.wild.example', paths: [{ service: 'echo' }] },
        ],
        tls: [
          { hosts: ['Cafe.Example'], secretName: 'cafe' },
          { hosts: ['*.wild.example'], secretName: 'wild' },
        ],
      }),
    ],
    services: [service({ name: 'echo', endpoints: [endpoint] })],
    secrets: [secretFor('cafe', 'cafe.example'), secretFor('wild', '*.wild.example')],
  };
}

async function handshake(port: number, servername: string | undefined, options: object = {}): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2', 'http/1.1'],
    ...(servername === undefined ? {} : { servername }),
    ...options,
  });
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  return socket;
}

async function namePresented(port: number, servername: string | undefined): Promise<string> {
  const socket = await handshake(port, servername);
  const name = new X509Certificate(socket.getPeerCertificate().raw).subject;
  socket.destroy();
  return name.replace(/^CN=/, '');
}

test('a client gets the certificate of the name it asks for, of its wildcard, or the default one', async () => {
  const plane = await startPlane({ https: LISTEN });
  const backend = await startBackend();
  plane.update(snapshot(world(backend.address)));
  const port = plane.addresses.https?.port ?? 0;
  expect(await namePresented(port, 'cafe.example')).toBe('cafe.example');
  expect(await namePresented(port, 'CAFE.example')).toBe('cafe.example');
  expect(await namePresented(port, 'a.wild.example')).toBe('*.wild.example');
  expect(await namePresented(port, 'b.a.wild.example')).toBe('Kubernetes Ingress Controller Fake Certificate');
  expect(await namePresented(port, 'other.example')).toBe('Kubernetes Ingress Controller Fake Certificate');
  expect(await namePresented(port, undefined)).toBe('Kubernetes Ingress Controller Fake Certificate');
});

test('--default-ssl-certificate stands in for every host without a certificate of its own, from the next handshake on', async () => {
  const plane = await startPlane({ https: LISTEN, defaultCertificate: 'default/fallback' });
  const backend = await startBackend();
  const first = snapshot(world(backend.address));
  plane.update(first);
  const port = plane.addresses.https?.port ?? 0;
  // Until the Secret is there, the certificate made at start is.
  expect(await namePresented(port, 'other.example')).toBe('Kubernetes Ingress Controller Fake Certificate');
  const secrets = world(backend.address).secrets ?? [];
  const second = snapshot({ secrets: [...secrets, secretFor('fallback', 'one.example')] }, first);
  plane.update(second);
  expect(await namePresented(port, 'other.example')).toBe('one.example');
  expect(await namePresented(port, undefined)).toBe('one.example');
  expect(await namePresented(port, 'cafe.example')).toBe('cafe.example');
  plane.update(snapshot({ secrets: [...secrets, secretFor('fallback', 'two.example')] }, second));
  expect(await namePresented(port, undefined)).toBe('two.example');
});

test('a certificate for other names is not served, and the log says for which it is', async () => {
  const lines: string[] = [];
  const log = createLogger({ format: 'text', verbosity: 0, now: () => 0, write: (line) => void lines.push(line) });
  const plane = await startPlane({ https: LISTEN, log });
  const backend = await startBackend();
  const { secrets = [], ...rest } = world(backend.address);
  const others = [secretFor('cafe', 'tea.example'), ...secrets.filter(({ name }) => name !== 'cafe')];
  plane.update(snapshot({ ...rest, secrets: others }));
  expect(await namePresented(plane.addresses.https?.port ?? 0, 'cafe.example')).toBe(
    'Kubernetes Ingress Controller Fake Certificate',
  );
  expect(lines.filter((line) => line.includes('its certificate is for tea.example'))).toHaveLength(1);
});

test('curl gets the certificate of the name, speaks HTTP/2 and sees https in the forwarding headers', async () => {
  const plane = await startPlane({ https: LISTEN });
  const backend = await startBackend();
  plane.update(snapshot(world(backend.address)));
  const port = plane.addresses.https?.port ?? 0;
  const curl = await systemExec.run('curl', [
    '-sSk',
    '--max-time',
    '10',
    '-w',
    '\n%{http_version} %{http_code}',
    '--resolve',
    `cafe.example:${port}:127.0.0.1`,
    `https://cafe.example:${port}/tea`,
  ]);
  expect(curl.stderr).toBe('');
  const [body, status] = curl.stdout.split('\n');
  expect(status).toBe('2 200');
  expect(JSON.parse(body ?? '')).toMatchObject({
    url: '/tea',
    headers: {
      'x-forwarded-proto': 'https',
      'x-scheme': 'https',
      'x-forwarded-port': String(port),
      host: `cafe.example:${port}`,
    },
  });
});

test('TLS 1.2 is spoken and TLS 1.1 is not', async () => {
  const plane = await startPlane({ https: LISTEN });
  const port = plane.addresses.https?.port ?? 0;
  const socket = await handshake(port, 'x', { maxVersion: 'TLSv1.2' });
  expect(socket.getProtocol()).toBe('TLSv1.2');
  expect(socket.alpnProtocol).toBe('h2');
  await expect(
    handshake(port, 'x', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
  ).rejects.toThrow(/SSL|TLS|EPROTO|version/i);
});

test('a Secret that changes is served to the next client, and the connection before it goes on', async () => {
  const plane = await startPlane({ https: LISTEN });
  const backend = await startBackend();
  const first = snapshot(world(backend.address));
  plane.update(first);
  const port = plane.addresses.https?.port ?? 0;
  const open = await handshake(port, 'cafe.example', { ALPNProtocols: ['http/1.1'] });
  const before = open.getPeerCertificate().serialNumber;
  plane.update(snapshot({ secrets: [secretFor('cafe', 'cafe.example')] }, first));
  const after = (await handshake(port, 'cafe.example')).getPeerCertificate().serialNumber;
  expect(after).not.toBe(before);
  let text = '';
  open.on('data', (chunk: Buffer) => (text += chunk.toString()));
  open.write('GET / HTTP/1.1\r\nHost: cafe.example\r\nConnection: close\r\n\r\n');
  await new Promise((resolve) => open.once('close', resolve));
  expect(text).toMatch(/^HTTP\/1\.1 200 /);
});

test('a Secret that is missing or bad is named once with its Ingress and the mend; its host gets the default certificate', async () => {
  const lines: string[] = [];
  const log = createLogger({ format: 'text', verbosity: 0, write: (line) => lines.push(line), now: () => Date.now() });
  const plane = await startPlane({ https: LISTEN, log });
  const backend = await startBackend();
  const good = world(backend.address);
  const swapped = tlsSecret(
    'wild',
    secretFor('wild', 'x').data.get('tls.crt') ?? '',
    secretFor('wild', 'x').data.get('tls.key') ?? '',
  );
  const first = snapshot({ ...good, secrets: [swapped] });
  plane.update(first);
  const again = snapshot({ services: [service({ name: 'echo', endpoints: ['127.0.0.1:1'] })] }, first);
  plane.update(again);
  const warnings = lines.filter((line) => line.includes('TLS Secret'));
  expect(warnings).toHaveLength(2);
  expect(warnings.find((line) => line.includes('default/cafe ') && line.includes('does not exist'))).toMatch(
    /ingress=default\/cafe .*secret=default\/cafe .*mend=/,
  );
  expect(warnings.find((line) => line.includes('default/wild'))).toMatch(/tls\.key is not the key of tls\.crt/);
  const port = plane.addresses.https?.port ?? 0;
  expect(await namePresented(port, 'cafe.example')).toBe('Kubernetes Ingress Controller Fake Certificate');
  plane.update(snapshot({ secrets: good.secrets ?? [] }, again));
  expect(await namePresented(port, 'cafe.example')).toBe('cafe.example');
  expect(lines.join('')).not.toMatch(/PRIVATE KEY/);
});

test('plain HTTP to a host with tls is sent to HTTPS by 308, and served where that is switched off', async () => {
  const backend = await startBackend();
  const bytes = 'GET /tea?x=1 HTTP/1.1\r\nHost: cafe.example\r\nConnection: close\r\n\r\n';
  const strict = await startPlane({ sslRedirect: true });
  strict.update(snapshot(world(backend.address)));
  expect(await exchange(httpPort(strict), bytes)).toMatch(
    /^HTTP\/1\.1 308 [^]*\r\nLocation: https:\/\/cafe\.example\/tea\?x=1\r\n/,
  );
  const lax = await startPlane({ sslRedirect: false });
  lax.update(snapshot(world(backend.address)));
  expect(await exchange(httpPort(lax), bytes)).toMatch(/^HTTP\/1\.1 200 /);
});

test('rubbish instead of a handshake ends that connection and no other', async () => {
  const plane = await startPlane({ https: LISTEN });
  const port = plane.addresses.https?.port ?? 0;
  const answer = await exchange(port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  expect(answer).not.toMatch(/HTTP/);
  expect(await namePresented(port, 'x')).toBe('Kubernetes Ingress Controller Fake Certificate');
});

test('a port that is taken, an address of another machine: the error says what, where and the mend', async () => {
  const plane = await startPlane();
  const open = (address: string, port: number) =>
    startIngressPlane({ http: { address: ip(address), port }, log: silentLogger, metrics: createMetrics() }).then(
      () => new Error('it listens'),
      (error: unknown) => error,
    );
  const taken = await open('127.0.0.1', httpPort(plane));
  expect(taken).toBeInstanceOf(IngressListenError);
  expect(taken).toMatchObject({
    code: 'port-in-use',
    message: expect.stringMatching(/127\.0\.0\.1:[0-9]+: another program has the port\. .*--http-port/),
  });
  expect(await open('192.0.2.1', 8080)).toMatchObject({
    code: 'address-not-here',
    message: expect.stringMatching(/192\.0\.2\.1:8080/),
  });
});
