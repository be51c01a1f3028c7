// The validating webhook over HTTPS, as an API server calls it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startWebhook } from '../../src/cli/admission.ts';
import { defaultGlobals, routingOptions, type RoutingFlags } from '../../src/ingress/routing-options.ts';
import { compileRoutes } from '../../src/ingress/route-table.ts';
import { createLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/api-server/certificate.ts';
import { ingress, service, snapshot } from './world.ts';

interface Answer {
  readonly status: number;
  readonly body: string;
}

interface Reviewed {
  readonly response: {
    readonly uid: string;
    readonly allowed: boolean;
    readonly status?: { readonly message: string };
    readonly warnings?: readonly string[];
    readonly auditAnnotations?: { readonly routes: string };
  };
}

async function webhook(flags: RoutingFlags = {}, configMap: Readonly<Record<string, string>> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-webhook-'));
  const [certificate, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
  writeFileSync(certificate, TEST_CERTIFICATE);
  writeFileSync(key, TEST_KEY);
  const world = {
    services: [service({ name: 'tea', endpoints: ['10.0.0.1:8080'] })],
    ingresses: [
      ingress({
        name: 'old',
        className: 'nginx',
        rules: [{ host: 'cafe.test', paths: [{ path: '/tea', service: 'tea' }] }],
      }),
    ],
    classes: [{ name: 'nginx', controller: 'k8s.io/ingress-nginx', isDefault: false }],
  };
  const map = { namespace: 'x', name: 'y', data: new Map(Object.entries(configMap)) };
  const table = compileRoutes(snapshot(world), routingOptions(flags, defaultGlobals(flags), map));
  const lines: string[] = [];
  const log = createLogger({ format: 'json', verbosity: 0, now: () => Date.now(), write: (line) => lines.push(line) });
  const running = await startWebhook({
    labels: {},
    settings: { address: undefined, port: 0, certificate, key, deepInspect: true, validateAnnotations: true },
    table: () => table,
    log,
    metrics: createMetrics(),
    clock: systemClock,
    files: systemFiles,
  });
  onTestFinished(async () => {
    await running.stop();
    rmSync(dir, { recursive: true });
  });
  const port = Number((JSON.parse(lines[0] ?? '{}') as { port?: number }).port);
  const post = (body: string, method = 'POST'): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const sent = request(
        {
          host: '127.0.0.1',
          port,
          method,
          path: '/networking/v1/ingresses',
          ca: TEST_CERTIFICATE,
          servername: 'localhost',
        },
        (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => (text += chunk.toString()));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
        },
      );
      // A body that is refused half-way is cut off.
      sent.on('error', reject);
      sent.end(body);
    });
  const review = async (object: unknown, operation = 'CREATE'): Promise<Reviewed['response']> => {
    const kind = { group: 'networking.k8s.io', version: 'v1', kind: 'Ingress' };
    const { status, body } = await post(
      JSON.stringify({
        apiVersion: 'admission.k8s.io/v1',
        kind: 'AdmissionReview',
        request: { uid: 'abc', kind, operation, namespace: 'default', object },
      }),
    );
    expect(status).toBe(200);
    const { response } = JSON.parse(body) as Reviewed;
    expect(response.uid).toBe('abc');
    return response;
  };
  return { post, review };
}

interface ObjectSpec {
  readonly name?: string;
  readonly host?: string;
  readonly path?: string;
  readonly pathType?: string;
  readonly className?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

function object({
  name = 'new',
  host = 'new.test',
  path = '/',
  pathType = 'Prefix',
  className = 'nginx',
  annotations = {},
}: ObjectSpec) {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: {
      namespace: 'default',
      name,
      annotations: Object.fromEntries(
        Object.entries(annotations).map(([key, value]) => [`nginx.ingress.kubernetes.io/${key}`, value]),
      ),
    },
    spec: {
      ingressClassName: className,
      rules: [
        { host, http: { paths: [{ path, pathType, backend: { service: { name: 'tea', port: { number: 80 } } } }] } },
      ],
    },
  };
}

test('an Ingress that can be carried out is let through, with what it would do for the audit log', async () => {
  const { review } = await webhook();
  expect(await review(object({ path: '/milk', annotations: { 'proxy-read-timeout': '10' } }))).toEqual({
    uid: 'abc',
    allowed: true,
    auditAnnotations: { routes: 'new.test/milk (Prefix) → default/tea:80' },
  });
  expect(await review(object({ name: 'old', host: 'cafe.test', path: '/tea' }), 'UPDATE')).toMatchObject({
    allowed: true,
  });
  expect(await review(undefined, 'DELETE')).toMatchObject({ allowed: true });
});

test.each<[string, ObjectSpec, RegExp]>([
  [
    'a host and path that another Ingress has',
    { host: 'cafe.test', path: '/tea' },
    /host "cafe.test" and path "\/tea" is already defined in ingress default\/old/,
  ],
  [
    'an annotation whose value cannot be read',
    { annotations: { 'proxy-read-timeout': 'soon' } },
    /proxy-read-timeout: "soon" is no number/,
  ],
  [
    'a guard that cannot be carried out',
    { annotations: { 'auth-type': 'magic' } },
    /auth-type: "magic" is neither basic nor digest/,
  ],
  [
    'a line break in a value',
    { annotations: { 'rewrite-target': '/x\nroot /;' } },
    /rewrite-target: the value holds a line break/,
  ],
  ['a path with what its type does not take', { path: '/a;b' }, /path "\/a;b" cannot be used with pathType Prefix/],
  ['a directive in a path', { path: '/a { root /etc; }', pathType: 'ImplementationSpecific' }, /is not allowed here/],
  [
    'an expression that would backtrack',
    { path: '/(a+)\\1', pathType: 'ImplementationSpecific', annotations: { 'use-regex': 'true' } },
    /is an expression here/,
  ],
  ['what the API itself would refuse', { path: 'relative' }, /spec.rules\[0\].http.paths\[0\].path: /],
])('%s is refused with the reason', async (_what, spec, reason) => {
  const { review } = await webhook();
  const { allowed, status } = await review(object(spec));
  expect(status?.message).toMatch(reason);
  expect(allowed).toBe(false);
});

test('a canary may have host and path of another, and what is not ours is not looked at', async () => {
  const { review } = await webhook();
  const canary = { canary: 'true', 'canary-weight': '10' };
  expect(await review(object({ host: 'cafe.test', path: '/tea', annotations: canary }))).toMatchObject({
    allowed: true,
  });
  const theirs = object({ className: 'other', host: 'cafe.test', path: '/tea', annotations: { 'auth-type': 'magic' } });
  expect(await review(theirs)).toEqual({ uid: 'abc', allowed: true });
});

test('switches of the ConfigMap and the flags count', async () => {
  const lenient = await webhook({ disableCatchAll: true }, { 'strict-validate-path-type': 'false' });
  expect(await lenient.review(object({ path: '/a;b' }))).toMatchObject({ allowed: true });
  const all = {
    ...object({}),
    spec: { ingressClassName: 'nginx', defaultBackend: { service: { name: 'tea', port: { number: 80 } } } },
  };
  expect((await lenient.review(all)).status?.message).toMatch(/--disable-catch-all/);
});

test('what is no review of an Ingress, or too large, is an error of the caller', async () => {
  const { post } = await webhook();
  expect(await post('{')).toMatchObject({ status: 400 });
  expect(await post('{}')).toEqual({ status: 400, body: 'the body is no AdmissionReview of admission.k8s.io/v1\n' });
  expect((await post('', 'GET')).status).toBe(405);
  const large = await post('x'.repeat(5 * 1024 * 1024)).catch((error: Error) => error.message);
  expect(typeof large === 'string' ? 413 : large.status).toBe(413);
});
