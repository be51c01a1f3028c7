import { expect, test } from 'vitest';
import { parseIngress } from './ingress.ts';

const backend = { service: { name: 'tea', port: { number: 80 } } };

const ingress = (spec: object, apiVersion = 'networking.k8s.io/v1'): object => ({
  apiVersion,
  kind: 'Ingress',
  metadata: {
    name: 'cafe',
    namespace: 'shop',
    creationTimestamp: '2026-01-01T00:00:00Z',
    annotations: {
      'kubernetes.io/ingress.class': 'nginx',
      'kubectl.kubernetes.io/last-applied-configuration': '{}',
      'nginx.ingress.kubernetes.io/app-root': '/tea',
    },
  },
  spec,
});

const pathRule = (path: object): object => ({ rules: [{ host: 'cafe.example.com', http: { paths: [path] } }] });

test('hosts, paths, backends and TLS are taken over', () => {
  const parsed = parseIngress(
    ingress({
      ingressClassName: 'fairlead',
      defaultBackend: { service: { name: 'other', port: { name: 'http' } } },
      tls: [{ hosts: ['cafe.example.com'], secretName: 'cafe-tls' }, {}],
      rules: [
        {
          host: 'cafe.example.com',
          http: {
            paths: [
              { path: '/tea', pathType: 'Prefix', backend },
              { pathType: 'ImplementationSpecific', backend },
              { path: '/r', pathType: 'Exact', backend: { resource: { apiGroup: 'x.io', kind: 'Bucket', name: 'b' } } },
            ],
          },
        },
        { http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } },
      ],
    }),
    'strict',
  );
  const tea = { kind: 'service', service: 'tea', port: { kind: 'number', number: 80 } };
  expect(parsed).toEqual({
    ok: true,
    notices: [],
    record: {
      namespace: 'shop',
      name: 'cafe',
      uid: '',
      createdAt: Date.UTC(2026, 0, 1),
      className: 'fairlead',
      classAnnotation: 'nginx',
      annotations: new Map([['nginx.ingress.kubernetes.io/app-root', '/tea']]),
      defaultBackend: { kind: 'service', service: 'other', port: { kind: 'name', name: 'http' } },
      tls: [
        { hosts: ['cafe.example.com'], secretName: 'cafe-tls' },
        { hosts: [], secretName: undefined },
      ],
      published: [],
      rules: [
        {
          host: 'cafe.example.com',
          paths: [
            { path: '/tea', pathType: 'Prefix', backend: tea },
            { path: '/', pathType: 'ImplementationSpecific', backend: tea },
            {
              path: '/r',
              pathType: 'Exact',
              backend: { kind: 'resource', apiGroup: 'x.io', resourceKind: 'Bucket', name: 'b' },
            },
          ],
        },
        { host: undefined, paths: [{ path: '/', pathType: 'Prefix', backend: tea }] },
      ],
    },
  });
});

test.each(['extensions/v1beta1', 'networking.k8s.io/v1beta1'])(
  'the form of %s is converted, with a notice',
  (version) => {
    const spec = {
      backend: { serviceName: 'other', servicePort: 'http' },
      rules: [{ http: { paths: [{ path: '/tea', backend: { serviceName: 'tea', servicePort: 80 } }] } }],
    };
    const parsed = parseIngress(ingress(spec, version), 'strict');
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.errors));
    expect(parsed.record.defaultBackend).toEqual({
      kind: 'service',
      service: 'other',
      port: { kind: 'name', name: 'http' },
    });
    expect(parsed.record.rules[0]?.paths).toEqual([
      {
        path: '/tea',
        pathType: 'ImplementationSpecific',
        backend: { kind: 'service', service: 'tea', port: { kind: 'number', number: 80 } },
      },
    ]);
    expect(parsed.notices).toEqual([expect.stringContaining(version)]);
  },
);

test.each<[string, object, string, string]>([
  ['nothing to route', {}, 'spec', 'either `defaultBackend` or `rules` must be specified'],
  [
    'a path without a backend',
    pathRule({ path: '/', pathType: 'Prefix' }),
    'spec.rules[0].http.paths[0].backend',
    'Required value',
  ],
  [
    'no pathType',
    pathRule({ path: '/', backend }),
    'spec.rules[0].http.paths[0].pathType',
    'pathType must be specified',
  ],
  [
    'an unknown pathType',
    pathRule({ path: '/', pathType: 'prefix', backend }),
    'spec.rules[0].http.paths[0].pathType',
    'supported values: "Exact", "ImplementationSpecific", "Prefix"',
  ],
  [
    'a relative path',
    pathRule({ path: 'tea', pathType: 'Prefix', backend }),
    'spec.rules[0].http.paths[0].path',
    'must be an absolute path',
  ],
  [
    'a path with //',
    pathRule({ path: '/a//b', pathType: 'Exact', backend }),
    'spec.rules[0].http.paths[0].path',
    'must not contain "//"',
  ],
  ['two wildcards', { rules: [{ host: '*.*.x' }] }, 'spec.rules[0].host', 'must start with'],
  [
    'an address as host',
    { rules: [{ host: '10.0.0.1' }] },
    'spec.rules[0].host',
    'must be a DNS name, not an IP address',
  ],
  [
    'a host in upper case',
    { rules: [{ host: 'Cafe.example.com' }] },
    'spec.rules[0].host',
    'lowercase RFC 1123 subdomain',
  ],
  [
    'a backend without a port',
    pathRule({ path: '/', pathType: 'Prefix', backend: { service: { name: 'tea' } } }),
    'spec.rules[0].http.paths[0].backend.service.port',
    'port name or number is required',
  ],
])('refuses %s in a manifest', (_title, spec, path, message) => {
  const parsed = parseIngress(ingress(spec), 'strict');
  if (parsed.ok) throw new Error('accepted');
  expect(parsed.errors.map((error) => error.path)).toContain(path);
  expect(parsed.errors.find((error) => error.path === path)?.message).toContain(message);
});

test('from the API server, a rule whose host cannot be read never turns into one for every host', () => {
  const parsed = parseIngress(
    ingress({ rules: [{ host: 7, http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } }] }),
    'trusted',
  );
  if (!parsed.ok) throw new Error('refused');
  expect(parsed.record.rules).toEqual([]);
});
