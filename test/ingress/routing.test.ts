// The routing facts of the Ingress conformance suite and of ingress-nginx' end-to-end tests, as one table.

import { expect, test } from 'vitest';
import { DEFAULT_SELECTION } from '../../src/ingress/class-selection.ts';
import { DEFAULT_GLOBALS } from '../../src/ingress/global-settings.ts';
import { route } from '../../src/ingress/match.ts';
import { compileRoutes } from '../../src/ingress/route-table.ts';
import { ingress, service, snapshot, type IngressSpec, type PathSpec } from './world.ts';

const exact = (path: string, to: string): PathSpec => ({ path, pathType: 'Exact', service: to, port: 8080 });
const prefix = (path: string, to: string): PathSpec => ({ path, pathType: 'Prefix', service: to, port: 8080 });
const literal = (path: string, to: string): PathSpec => ({
  path,
  pathType: 'ImplementationSpecific',
  service: to,
  port: 8080,
});

const DEFAULT_BACKEND: IngressSpec = { name: 'default-backend', defaultBackend: { service: 'echo', port: 8080 } };
const HOST_RULES: IngressSpec = {
  name: 'host-rules',
  tls: [{ hosts: ['foo.bar.com'], secretName: 'conformance-tls' }],
  rules: [
    { host: '*.foo.com', paths: [prefix('/', 'wildcard-foo-com')] },
    { host: 'foo.bar.com', paths: [{ service: 'foo-bar-com', port: 'http' }] },
  ],
};
const PATH_RULES: IngressSpec = {
  name: 'path-rules',
  rules: [
    { host: 'exact-path-rules', paths: [exact('/foo', 'foo-exact')] },
    { host: 'prefix-path-rules', paths: [prefix('/foo', 'foo'), prefix('/aaa/bbb', 'aaa-bbb'), prefix('/aaa', 'aaa')] },
    { host: 'mixed-path-rules', paths: [prefix('/foo', 'foo-prefix'), exact('/foo', 'foo-exact')] },
    { host: 'trailing-slash', paths: [prefix('/aaa/bbb/', 'aaa-bbb-slash'), exact('/foo/', 'foo-slash')] },
    { host: 'literal', paths: [literal('/lit', 'lit'), prefix('/lit/a', 'lit-a'), literal('/lit/ab', 'lit-ab')] },
  ],
};
const CONFLICT: readonly IngressSpec[] = [
  { name: 'exact', createdAt: 1, rules: [{ host: 'exact.path', paths: [exact('/exact', 'exact')] }] },
  { name: 'suffix', createdAt: 2, rules: [{ host: 'exact.path', paths: [prefix('/exact', 'prefix')] }] },
  { name: 'duplicate', createdAt: 3, rules: [{ host: 'exact.path', paths: [prefix('/exact', 'duplicate')] }] },
];
const INJECTED: readonly IngressSpec[] = [
  {
    name: 'bad',
    rules: [{ host: 'inspect', paths: [prefix('/bla{alias /var/run/secrets/;}location ~* ^/abcd', 'echo')] }],
  },
  { name: 'valid', rules: [{ host: 'inspect', paths: [prefix('/xpto', 'echo')] }] },
];
const OWN_DEFAULT: IngressSpec = {
  name: 'own-default',
  defaultBackend: { service: 'echo', port: 8080 },
  rules: [
    { host: 'with.rules', paths: [prefix('/tea', 'tea')] },
    { host: 'no.paths', paths: [] },
  ],
};

const CASES: readonly (readonly [string, readonly IngressSpec[], string, string, string | number])[] = [
  ['an Ingress without rules takes every host', [DEFAULT_BACKEND], 'my-host', '/', 'echo'],
  ['an Ingress without rules takes every path', [DEFAULT_BACKEND], 'my-host', '/sub-path', 'echo'],
  ['a host that matches exactly', [HOST_RULES], 'foo.bar.com', '/', 'foo-bar-com'],
  ['a host that no rule names', [HOST_RULES], 'subdomain.bar.com', '/', 404],
  ['a wildcard matches one label', [HOST_RULES], 'bar.foo.com', '/', 'wildcard-foo-com'],
  ['a wildcard does not match two labels', [HOST_RULES], 'baz.bar.foo.com', '/', 404],
  ['a wildcard does not match its own domain', [HOST_RULES], 'foo.com', '/', 404],
  ['Exact /foo: /foo', [PATH_RULES], 'exact-path-rules', '/foo', 'foo-exact'],
  ['Exact /foo: /foo/', [PATH_RULES], 'exact-path-rules', '/foo/', 404],
  ['Exact /foo: /FOO', [PATH_RULES], 'exact-path-rules', '/FOO', 404],
  ['Exact /foo: /bar', [PATH_RULES], 'exact-path-rules', '/bar', 404],
  ['Prefix /foo: /foo', [PATH_RULES], 'prefix-path-rules', '/foo', 'foo'],
  ['Prefix /foo: /foo/', [PATH_RULES], 'prefix-path-rules', '/foo/', 'foo'],
  ['Prefix /foo: /FOO', [PATH_RULES], 'prefix-path-rules', '/FOO', 404],
  ['Prefix /foo: /foobar', [PATH_RULES], 'prefix-path-rules', '/foobar', 404],
  ['Prefix /aaa/bbb beats /aaa', [PATH_RULES], 'prefix-path-rules', '/aaa/bbb', 'aaa-bbb'],
  ['Prefix /aaa/bbb: /aaa/bbb/ccc', [PATH_RULES], 'prefix-path-rules', '/aaa/bbb/ccc', 'aaa-bbb'],
  ['Prefix /aaa takes what is not below /aaa/bbb', [PATH_RULES], 'prefix-path-rules', '/aaa/ccc', 'aaa'],
  ['Prefix /aaa: /aaaccc', [PATH_RULES], 'prefix-path-rules', '/aaaccc', 404],
  ['Exact beats Prefix of the same path', [PATH_RULES], 'mixed-path-rules', '/foo', 'foo-exact'],
  ['Prefix takes what lies below', [PATH_RULES], 'mixed-path-rules', '/foo/bar', 'foo-prefix'],
  ['Prefix /aaa/bbb/: /aaa/bbb', [PATH_RULES], 'trailing-slash', '/aaa/bbb', 'aaa-bbb-slash'],
  ['Prefix /aaa/bbb/: /aaa/bbb/', [PATH_RULES], 'trailing-slash', '/aaa/bbb/', 'aaa-bbb-slash'],
  ['Exact /foo/: /foo', [PATH_RULES], 'trailing-slash', '/foo', 404],
  ['ImplementationSpecific is a prefix of the text', [PATH_RULES], 'literal', '/literal', 'lit'],
  ['the longest wins, literal over Prefix', [PATH_RULES], 'literal', '/lit/abc', 'lit-ab'],
  ['the longest wins, Prefix over literal', [PATH_RULES], 'literal', '/lit/a/b', 'lit-a'],
  ['Exact of an older Ingress beside Prefix of another', CONFLICT, 'exact.path', '/exact', 'exact'],
  ['the older of two equal rules wins', CONFLICT, 'exact.path', '/exact/suffix', 'prefix'],
  ['a path of directives is a path that nobody asks for', INJECTED, 'inspect', '/bla', 404],
  ['a path of directives makes no other path', INJECTED, 'inspect', '/abcd/', 404],
  ['a path of directives does not harm another Ingress', INJECTED, 'inspect', '/xpto', 'echo'],
  ['a default backend beside rules takes the rest of their hosts', [OWN_DEFAULT], 'with.rules', '/coffee', 'echo'],
  ['a default backend beside rules leaves the rules alone', [OWN_DEFAULT], 'with.rules', '/tea', 'tea'],
  ['a host without paths goes to the default backend', [OWN_DEFAULT], 'no.paths', '/x', 'echo'],
  ['a default backend beside rules takes no other host', [OWN_DEFAULT], 'other', '/', 404],
  [
    'a host with rules does not fall through to the catch-all',
    [DEFAULT_BACKEND, PATH_RULES],
    'exact-path-rules',
    '/bar',
    404,
  ],
  ['a host in capitals, with port and dot', [HOST_RULES], 'FOO.bar.com.:8080', '/', 'foo-bar-com'],
];

test.each(CASES)('%s', (_title, specs, host, path, expected) => {
  const list = specs.map((spec) => ingress(spec));
  const names = new Set(
    list
      .flatMap((each) => [...each.rules.flatMap((rule) => rule.paths.map((one) => one.backend)), each.defaultBackend])
      .flatMap((backend) => (backend?.kind === 'service' ? [backend.service] : [])),
  );
  const services = [...names].map((name) =>
    service({ name, portNumber: 8080, portName: 'http', endpoints: ['10.0.0.1:3000'] }),
  );
  const table = compileRoutes(snapshot({ ingresses: list, services }), {
    ...DEFAULT_SELECTION,
    watchIngressWithoutClass: true,
    globals: { ...DEFAULT_GLOBALS, sslRedirect: false },
  });
  const answer = route(table, { scheme: 'http', host, path });
  expect(answer.kind === 'backend' ? answer.service : answer.status).toBe(expected);
});
