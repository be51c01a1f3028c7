import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { frame, FrameReader } from '../../src/dns/wire/frame.ts';
import { parseMessage } from '../../src/dns/wire/message.ts';
import { parseName } from '../../src/dns/wire/name.ts';
import { encodeQuery } from '../../src/dns/wire/query.ts';
import { FLAG, RR } from '../../src/dns/wire/types.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/api-server/certificate.ts';
import { toolPath } from '../support/debian-tools.ts';
import { freePort } from '../support/free-port.ts';
import { loadCorefile } from '../../src/dns/corefile/load.ts';
import { systemFiles } from '../../src/system/files.ts';
import { until } from '../support/until.ts';
import { serveCorefile, type CorefileServer } from './corefile-plane.ts';

const run = promisify(execFile);
const missing = toolPath('kdig') === undefined ? 'no kdig: apt-get install knot-dnsutils' : undefined;
if (missing) console.log(`skipped: DNS over TLS and HTTPS with kdig: ${missing}`);
const NAME = 'web.shop.svc.cluster.local';
const beside = { 'cert.pem': TEST_CERTIFICATE, 'key.pem': TEST_KEY };

const servers: CorefileServer[] = [];
const closing: (() => void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) close();
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

async function serve(
  scheme: 'tls' | 'https',
  workers: number,
  more = '',
): Promise<{ port: number; server: CorefileServer }> {
  const port = await freePort();
  const block = `${scheme}://.:${port} {\n bind 127.0.0.1\n tls cert.pem key.pem ${more}\n kubernetes cluster.local\n}\n`;
  const server = await serveCorefile(block, { workers, beside, idleMs: 700 });
  servers.push(server);
  return { port, server };
}

/** What kdig prints. */
async function kdig(port: number, ...words: readonly string[]): Promise<string> {
  const { stdout } = await run('kdig', ['@127.0.0.1', '-p', String(port), '+retry=0', '+timeout=5', ...words]);
  return stdout;
}

function question(id = 0): Buffer {
  const name = parseName(NAME);
  if (!name) throw new Error('no name');
  return encodeQuery({ id, flags: FLAG.RD, name, type: RR.A });
}

async function tlsTo(port: number): Promise<TLSSocket> {
  const socket = connectTls({ host: '127.0.0.1', port, ca: TEST_CERTIFICATE, ALPNProtocols: ['dot'] });
  closing.push(() => socket.destroy());
  socket.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  return socket;
}

function ended(socket: { once(event: 'close', call: () => void): unknown }): Promise<void> {
  return new Promise((resolve) => socket.once('close', resolve));
}

describe('tls://', () => {
  test.skipIf(missing)('answers kdig, many questions on one connection', async () => {
    for (const workers of [0, 2]) {
      const { port } = await serve('tls', workers);
      const text = await kdig(port, '+tls', '+keepopen', NAME, 'A', NAME, 'SRV', NAME, 'AAAA');
      expect(text).toContain('TLS session');
      expect(text.match(/status: NOERROR/g)).toHaveLength(3);
      expect(text).toMatch(/web\.shop\.svc\.cluster\.local\.\s+5\s+IN\s+A\s+10\.96\.10\.1/);
    }
  });

  test.skipIf(missing)(
    'speaks dot, TLS 1.2 and newer, and closes who speaks no TLS, goes quiet, or sends what is no message',
    async () => {
      const { port } = await serve('tls', 0);
      const socket = await tlsTo(port);
      expect(socket.alpnProtocol).toBe('dot');
      const frames = new FrameReader();
      const answers: Buffer[] = [];
      socket.on('data', (data: Buffer) => answers.push(...frames.push(data)));
      // A message that is no query is not answered; the one behind it is.
      socket.write(Buffer.concat([frame(Buffer.alloc(3)), frame(question(7)), frame(question(8))]));
      await until(() => answers.length === 2);
      expect(answers.map((answer) => parseMessage(answer)?.id)).toEqual([7, 8]);
      await ended(socket);

      const old = connectTls({
        host: '127.0.0.1',
        port,
        rejectUnauthorized: false,
        maxVersion: 'TLSv1.1',
        minVersion: 'TLSv1',
      });
      old.on('error', () => {});
      await ended(old);
      const plain = connect(port, '127.0.0.1', () => plain.write(frame(question())));
      plain.on('error', () => {});
      await ended(plain);
      const silent = connect(port, '127.0.0.1');
      silent.on('error', () => {});
      await ended(silent);
      expect(await kdig(port, '+tls', NAME)).toContain('NOERROR');
    },
  );

  test.skipIf(missing)('serves those clients that client_auth says', async () => {
    const { port } = await serve('tls', 0, 'cert.pem {\n client_auth require_and_verify\n }');
    const without = connectTls({ host: '127.0.0.1', port, ca: TEST_CERTIFICATE });
    without.on('error', () => {});
    without.write(frame(question()));
    await ended(without);
    const { folder } = servers[0] ?? { folder: '' };
    const files = [`+tls-certfile=${join(folder, 'cert.pem')}`, `+tls-keyfile=${join(folder, 'key.pem')}`];
    expect(await kdig(port, '+tls', ...files, NAME)).toContain('NOERROR');
  });
});

function http2To(port: number): ClientHttp2Session {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: TEST_CERTIFICATE });
  session.on('error', () => {});
  closing.push(() => session.destroy());
  return session;
}

interface Told {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

function ask(session: ClientHttp2Session, headers: Record<string, string>, body?: Buffer): Promise<Told> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    const chunks: Buffer[] = [];
    let told: Record<string, unknown> = {};
    stream.on('response', (response) => (told = response));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => resolve({ status: Number(told[':status']), headers: told, body: Buffer.concat(chunks) }));
    stream.on('error', reject);
    if (body) stream.end(body);
  });
}

const POST = { ':method': 'POST', ':path': '/dns-query', 'content-type': 'application/dns-message' };

describe('https://', () => {
  test.skipIf(missing)('answers kdig by GET and by POST', async () => {
    for (const workers of [0, 2]) {
      const { port } = await serve('https', workers);
      for (const method of ['+https', '+https-get']) {
        const text = await kdig(port, method, NAME);
        expect(text).toContain('HTTP/2');
        expect(text).toContain('status: NOERROR');
        expect(text).toMatch(/web\.shop\.svc\.cluster\.local\.\s+5\s+IN\s+A\s+10\.96\.10\.1/);
      }
    }
  });

  test('answers HTTP/2 and HTTP/1.1 with the type, and with how long it is good for', async () => {
    const { port, server } = await serve('https', 0);
    const session = http2To(port);
    const dns = question().toString('base64url');
    const told = await ask(session, { ':path': `/dns-query?dns=${dns}` });
    expect(told).toMatchObject({
      status: 200,
      headers: { 'content-type': 'application/dns-message', 'cache-control': 'max-age=5' },
    });
    expect(parseMessage(told.body)?.answer).toHaveLength(1);
    const many = await Promise.all(Array.from({ length: 50 }, (_, id) => ask(session, POST, question(id))));
    expect(many.map(({ body }) => parseMessage(body)?.id)).toEqual(Array.from({ length: 50 }, (_, id) => id));
    const status = await new Promise((resolve, reject) => {
      httpsRequest({ host: '127.0.0.1', port, path: `/dns-query?dns=${dns}`, ca: TEST_CERTIFICATE }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });
    expect(status).toBe(200);
    expect(await server.metrics.text()).toContain(
      `coredns_dns_https_responses_total{server="https://127.0.0.1:${port}",status="200"} 52`,
    );
  });

  test('refuses what is no query with the code that says why, and goes on', async () => {
    const { port } = await serve('https', 0);
    const session = http2To(port);
    const status = async (headers: Record<string, string>, body?: Buffer): Promise<number> =>
      (await ask(session, headers, body)).status;
    expect(await status({ ':path': '/' })).toBe(404);
    expect(await status({ ':path': '/dns-query' })).toBe(400);
    expect(await status({ ':path': '/dns-query?dns=!!' })).toBe(400);
    expect(await status({ ':path': '/dns-query?dns=AAAA' })).toBe(400);
    expect(await status({ ':path': `/dns-query?dns=${'A'.repeat(8000)}` })).toBe(413);
    expect(await status({ ':path': '/dns-query', ':method': 'DELETE' })).toBe(405);
    expect(await status({ ...POST, 'content-type': 'text/plain' }, question())).toBe(415);
    expect(await status(POST, Buffer.alloc(5000))).toBe(413);
    expect(await status(POST, Buffer.alloc(5))).toBe(400);
    // A question that is malformed is answered as over every other transport.
    const malformed = await ask(session, POST, question().subarray(0, 20));
    expect(malformed.status).toBe(200);
    expect((malformed.body[3] ?? 0) & 0xf).toBe(1);
    expect(await status(POST, question())).toBe(200);
    // One that never ends holds its stream for as long as silence would.
    const slow = session.request(POST, { endStream: false });
    slow.on('error', () => {});
    slow.write(question().subarray(0, 5));
    await ended(slow);
  });
});

describe('tls', () => {
  async function mistake(corefile: string, files: Readonly<Record<string, string>> = beside): Promise<string> {
    const all: Readonly<Record<string, string>> = { ...files, Corefile: corefile };
    const readText = async (path: string): Promise<string> => {
      const text = all[path.slice(1)];
      if (text === undefined) throw new Error('no file');
      return text;
    };
    const loaded = await loadCorefile({ path: '/Corefile', files: { ...systemFiles, readText }, env: () => undefined });
    return loaded.kind === 'mistake' ? loaded.message : 'none';
  }

  test('says where and why a certificate cannot be used', async () => {
    expect(await mistake('tls://. {\n tls cert.pem key.pem\n}')).toBe('none');
    expect(await mistake('tls://. {\n whoami\n}')).toBe(
      '/Corefile:1: tls:// needs a certificate: name it with tls CERT KEY',
    );
    expect(await mistake('tls://. {\n tls cert.pem\n}')).toContain('/Corefile:2:');
    expect(await mistake('tls://. {\n tls other.pem key.pem\n}')).toBe('/Corefile:2: tls: cannot read /other.pem');
    expect(await mistake('tls://. {\n tls key.pem key.pem\n}')).toContain('cannot be used');
    expect(await mistake('tls://. {\n tls acme\n}')).toContain('"acme"');
    expect(await mistake('tls://. {\n tls cert.pem key.pem {\n client_auth some\n }\n}')).toContain(
      'client_auth is nocert',
    );
    expect(await mistake('.:853 {\n whoami\n}\ntls://example.org {\n tls cert.pem key.pem\n}')).toBe(
      '/Corefile:4: port 853 serves dns:// already; tls:// needs another one',
    );
  });

  test('takes a certificate that is renewed in place at the next reload of the Corefile', async () => {
    const port = await freePort();
    const corefile = (more: string): string =>
      `tls://.:${port} {\n bind 127.0.0.1\n reload 2s 1s\n tls cert.pem key.pem\n kubernetes cluster.local\n${more}}\n`;
    const server = await serveCorefile(corefile(''), { workers: 2, beside });
    servers.push(server);
    // Each is closed again: a server holds so many connections and no more.
    const shown = async (): Promise<string> => {
      const socket = await anyTlsTo(port);
      const { CN } = socket.getPeerCertificate().subject;
      socket.destroy();
      return String(CN);
    };
    expect(await shown()).toBe('fairlead test');
    const [certificate, key] = [join(server.folder, 'cert.pem'), join(server.folder, 'key.pem')];
    const words = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '9'];
    await run('openssl', [...words, '-subj', '/CN=renewed', '-keyout', `${key}.new`, '-out', `${certificate}.new`]);
    await writeFile(key, await systemFiles.readText(`${key}.new`));
    await writeFile(certificate, await systemFiles.readText(`${certificate}.new`));
    await server.rewrite(corefile(' loadbalance\n'));
    await until(async () => {
      const names = await Promise.all(Array.from({ length: 8 }, shown));
      return names.every((name) => name === 'renewed');
    });
  });

  async function anyTlsTo(port: number): Promise<TLSSocket> {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false });
    closing.push(() => socket.destroy());
    socket.on('error', () => {});
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    return socket;
  }
});
