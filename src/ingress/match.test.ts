import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { ingress, service, snapshot, tlsSecret } from '../../test/ingress/world.ts';
import type { IngressRecord, PathType } from '../model/records.ts';
import type { ResolvedService, Snapshot } from '../model/snapshot.ts';
import { DEFAULT_SELECTION } from './class-selection.ts';
import { DEFAULT_GLOBALS } from './global-settings.ts';
import { hostName, route } from './match.ts';
import { compileRoutes, type RouteTable } from './route-table.ts';

const SELECTION = {
  ...DEFAULT_SELECTION,
  watchIngressWithoutClass: true,
  globals: { ...DEFAULT_GLOBALS, sslRedirect: false },
};
const SERVICES = ['a', 'b', 'c'].map((name) => service({ name, endpoints: ['10.0.0.1:8080'] }));

function ask(table: RouteTable, host: string, path: string): string | number {
  const answer = route(table, { scheme: 'http', host, path });
  return answer.kind === 'backend' ? answer.service : answer.status;
}

// The rules once more, in their plainest form: every path of every rule of every Ingress, compared one by one.
function naive(ingresses: readonly IngressRecord[], host: string, path: string): string | number {
  const oldest = [...ingresses].sort(
    (a, b) => a.createdAt - b.createdAt || (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1),
  );
  const hosts = oldest.flatMap((each) => [
    ...each.rules.map((rule) => rule.host ?? ''),
    ...(each.rules.length === 0 && each.defaultBackend ? [''] : []),
  ]);
  const wildcard = `*${host.slice(host.indexOf('.'))}`;
  const chosen = hosts.includes(host) ? host : host.indexOf('.') > 0 && hosts.includes(wildcard) ? wildcard : '';
  let best: { rank: number; length: number; service: string } | undefined;
  let fallback: string | undefined;
  for (const each of oldest) {
    const rules = each.rules.filter((rule) => (rule.host ?? '') === chosen);
    if (rules.length === 0 && !(chosen === '' && each.rules.length === 0)) continue;
    if (each.defaultBackend?.kind === 'service') fallback ??= each.defaultBackend.service;
    for (const { path: rule, pathType, backend } of rules.flatMap((one) => one.paths)) {
      if (backend.kind !== 'service') continue;
      const elements = (text: string) => text.split('/').filter((part) => part !== '');
      const matches =
        pathType === 'Exact'
          ? rule === path
          : pathType === 'Prefix'
            ? elements(rule).every((part, i) => elements(path)[i] === part)
            : path.startsWith(rule);
      if (!matches) continue;
      const length = pathType === 'Prefix' && rule.length > 1 ? rule.replace(/\/$/, '').length : rule.length;
      const rank = pathType === 'Exact' ? 2 : pathType === 'Prefix' ? 1 : 0;
      const candidate = { rank, length: rank === 2 ? Infinity : length, service: backend.service };
      const better =
        !best || candidate.length > best.length || (candidate.length === best.length && candidate.rank > best.rank);
      if (better) best = candidate;
    }
  }
  return best?.service ?? fallback ?? 404;
}

const someHost = fc.constantFrom('x.example', 'y.example', 'a.x.example', 'b.a.x.example', 'example');
const ruleHost = fc.option(fc.oneof(someHost, fc.constantFrom('*.x.example', '*.example')), { nil: undefined });
const somePath = fc
  .tuple(fc.array(fc.constantFrom('foo', 'foobar', 'a', 'A'), { maxLength: 3 }), fc.boolean())
  .map(([parts, slash]) => (parts.length === 0 ? '/' : `/${parts.join('/')}${slash ? '/' : ''}`));
const pathSpec = fc.record({
  path: somePath,
  pathType: fc.constantFrom<PathType>('Exact', 'Prefix', 'ImplementationSpecific'),
  service: fc.constantFrom('a', 'b', 'c'),
});
const someIngress = fc
  .record({
    name: fc.constantFrom('one', 'two', 'three', 'four'),
    createdAt: fc.nat(2),
    rules: fc.array(
      fc
        .tuple(ruleHost, fc.array(pathSpec, { maxLength: 4 }))
        .map(([host, paths]) => (host === undefined ? { paths } : { host, paths })),
      { maxLength: 3 },
    ),
    defaultBackend: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
    tls: fc.constantFrom([], [{ hosts: ['x.example'], secretName: 's' }], [{ hosts: [], secretName: 's' }]),
  })
  .map(({ defaultBackend, ...spec }) =>
    ingress(defaultBackend === undefined ? spec : { ...spec, defaultBackend: { service: defaultBackend } }),
  );
const distinct = (list: readonly IngressRecord[]) => [...new Map(list.map((each) => [each.name, each])).values()];
const ingresses = fc.array(someIngress, { maxLength: 4 }).map(distinct);

test('the router finds what a comparison with every rule finds', () => {
  fc.assert(
    fc.property(
      ingresses,
      fc.array(fc.tuple(someHost, somePath), { minLength: 5, maxLength: 20 }),
      (list, questions) => {
        const table = compileRoutes(snapshot({ ingresses: list, services: SERVICES }), SELECTION);
        for (const [host, path] of questions)
          expect([host, path, ask(table, host, path)]).toEqual([host, path, naive(list, host, path)]);
      },
    ),
    { numRuns: 400 },
  );
}, 20_000);

const someServices = fc
  .array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.nat(2)), { maxLength: 3 })
  .map((list) => [
    ...new Map(
      list.map(([name, count]): [string, ResolvedService] => [
        name,
        service({ name, endpoints: Array.from({ length: count }, (_, i) => `10.0.0.${i + 1}:80`) }),
      ]),
    ).values(),
  ]);

test('a table that is compiled from the one before equals one that is compiled anew', () => {
  const world = fc.record({ ingresses, services: someServices });
  fc.assert(
    fc.property(fc.array(world, { minLength: 2, maxLength: 5 }), (worlds) => {
      let before: Snapshot | undefined;
      let table: RouteTable | undefined;
      for (const each of worlds) {
        const now = snapshot(each, before);
        table = compileRoutes(now, SELECTION, table);
        before = now;
        const anew = compileRoutes(now, SELECTION);
        for (const part of ['hosts', 'certificates', 'backends', 'uses', 'contributors'] as const) {
          expect(new Map<string, unknown>(table[part].entries())).toEqual(
            new Map<string, unknown>(anew[part].entries()),
          );
        }
        const keys = (of: RouteTable) =>
          new Map([...of.backendsOfService.entries()].map(([key, refs]) => [key, refs.map((ref) => ref.key).sort()]));
        expect(keys(table)).toEqual(keys(anew));
      }
    }),
    { numRuns: 100 },
  );
}, 20_000);

test('a change of one Ingress or Service leaves the routes of other hosts the same objects', () => {
  const list = ['one', 'two'].map((name) =>
    ingress({ name, rules: [{ host: `${name}.example`, paths: [{ service: name === 'one' ? 'a' : 'b' }] }] }),
  );
  const first = snapshot({ ingresses: list, services: SERVICES });
  const table = compileRoutes(first, SELECTION);
  const changed = ingress({ name: 'one', rules: [{ host: 'one.example', paths: [{ service: 'c' }] }] });
  const next = compileRoutes(snapshot({ ingresses: [changed, ...list.slice(1)] }, first), SELECTION, table);
  expect(next.hosts.get('two.example')).toBe(table.hosts.get('two.example'));
  expect(next.backends.get('default/b:80')).toBe(table.backends.get('default/b:80'));
  expect(next.backends.has('default/a:80')).toBe(false);
  const scaled = snapshot({ services: [...SERVICES.slice(1), service({ name: 'a', endpoints: [] })] }, first);
  const after = compileRoutes(scaled, SELECTION, table);
  expect(after.hosts).toBe(table.hosts);
  expect(ask(after, 'one.example', '/')).toBe(503);
});

test('an Ingress is ours by the controller of its class, by the annotation, or when classless ones are watched', () => {
  const classes = [
    { name: 'ours', controller: 'k8s.io/ingress-nginx', isDefault: false },
    { name: 'own', controller: 'fairlead.io/ingress', isDefault: false },
    { name: 'theirs', controller: 'example.com/other', isDefault: false },
  ];
  const taken = (spec: { className?: string; classAnnotation?: string }, selection = DEFAULT_SELECTION) => {
    const world = {
      ingresses: [ingress({ name: 'x', defaultBackend: { service: 'a' }, ...spec })],
      services: SERVICES,
      classes,
    };
    return ask(compileRoutes(snapshot(world), selection), 'any', '/') === 'a';
  };
  expect(taken({ className: 'ours' })).toBe(true);
  expect(taken({ className: 'own' })).toBe(true);
  expect(taken({ className: 'theirs' })).toBe(false);
  expect(taken({ className: 'nginx' })).toBe(false);
  expect(taken({ className: 'nginx' }, { ...DEFAULT_SELECTION, ingressClassByName: true })).toBe(true);
  expect(taken({ classAnnotation: 'nginx' })).toBe(true);
  expect(taken({ classAnnotation: 'other' }, SELECTION)).toBe(false);
  expect(taken({})).toBe(false);
  expect(taken({}, SELECTION)).toBe(true);
});

test('a class that changes its controller takes its Ingresses along', () => {
  const world = (controller: string) => ({
    ingresses: [ingress({ name: 'x', className: 'c', defaultBackend: { service: 'a' } })],
    services: SERVICES,
    classes: [{ name: 'c', controller, isDefault: false }],
  });
  const first = snapshot(world('example.com/other'));
  const table = compileRoutes(first, DEFAULT_SELECTION);
  expect(ask(table, 'any', '/')).toBe(404);
  const second = compileRoutes(snapshot(world('k8s.io/ingress-nginx'), first), DEFAULT_SELECTION, table);
  expect(ask(second, 'any', '/')).toBe('a');
});

test('a backend without Service, port or endpoints, an ExternalName and a resource answer 503 and say why', () => {
  const reason = (backend: { service: string; port?: number | string }) => {
    const world = {
      ingresses: [ingress({ name: 'x', defaultBackend: backend })],
      services: [
        ...SERVICES,
        service({ name: 'empty' }),
        service({ name: 'outside', externalName: 'localhost' }),
        service({ name: 'named', portName: 'web', endpoints: ['10.0.0.1:80'] }),
      ],
    };
    const answer = route(compileRoutes(snapshot(world), SELECTION), { scheme: 'http', host: 'h', path: '/' });
    return answer.kind === 'backend' ? 'backend' : `${answer.status} ${answer.reason}`;
  };
  expect(reason({ service: 'missing' })).toMatch(/^503 .*does not exist/);
  expect(reason({ service: 'a', port: 81 })).toMatch(/^503 .*no TCP port 81/);
  expect(reason({ service: 'empty' })).toMatch(/^503 .*no ready endpoint/);
  expect(reason({ service: 'outside' })).toMatch(/^503 .*ExternalName/);
  expect(reason({ service: 'named', port: 'web' })).toBe('backend');
  expect(reason({ service: 'named', port: 'other' })).toMatch(/^503 .*no TCP port other/);
});

test('plain HTTP is sent to HTTPS for a host with tls, and only for that', () => {
  const world = {
    ingresses: [
      ingress({
        name: 'x',
        rules: [{ host: 'x.example', paths: [{ service: 'a' }] }],
        tls: [{ hosts: ['x.example'], secretName: 's' }],
      }),
      ingress({ name: 'y', rules: [{ host: 'y.example', paths: [{ service: 'a' }] }] }),
      ingress({
        name: 'z',
        rules: [{ host: 'w.z.example', paths: [{ service: 'a' }] }],
        tls: [{ hosts: ['*.z.example'], secretName: 's' }],
      }),
    ],
    services: SERVICES,
    secrets: [tlsSecret('s', '', '')],
  };
  const table = compileRoutes(snapshot(world), { ...SELECTION, globals: DEFAULT_GLOBALS });
  const redirect = (scheme: 'http' | 'https', host: string, path: string) => {
    const answer = route(table, { scheme, host, path });
    return answer.kind === 'status' && answer.status === 308 ? answer.location : answer.kind;
  };
  expect(redirect('http', 'x.example:8080', '/tea/?a=b')).toBe('https://x.example/tea/?a=b');
  expect(redirect('http', 'x.example', '/')).toBe('https://x.example');
  expect(redirect('http', 'w.z.example', '/tea')).toBe('https://w.z.example/tea');
  expect(redirect('https', 'x.example', '/')).toBe('backend');
  expect(redirect('http', 'y.example', '/')).toBe('backend');
});

test('a host is looked up without its port, its case and a dot at its end', () => {
  expect(['A.Example:80', 'a.example.', 'a.example.:443', 'a.example'].map(hostName)).toEqual(
    Array.from({ length: 4 }, () => 'a.example'),
  );
  expect(hostName('[::1]:80')).toBe('[::1]');
});

test('in regex mode the router says the same as trying every expression of the host by length', () => {
  const paths = fc.constantFrom('/', '/a', '/a/', '/a.*', '/a/b', '/(a|b)', '/[ab]/b$', '/A', '/a+', '/b/(.*)');
  const types = fc.constantFrom<PathType>('Exact', 'Prefix', 'ImplementationSpecific');
  const rule = fc.record({ path: paths, pathType: types, service: fc.constantFrom('a', 'b', 'c') });
  const requests = fc.constantFrom('/', '/a', '/aa', '/A/b', '/b/b', '/b', '/c', '/a/b/c', '/b/x');
  fc.assert(
    fc.property(fc.array(rule, { minLength: 1, maxLength: 6 }), requests, (rules, path) => {
      const world = {
        ingresses: rules.map((spec, i) =>
          ingress({
            name: `i${i}`,
            createdAt: i,
            rules: [{ host: 'h', paths: [spec] }],
            annotations: i === rules.length - 1 ? { 'use-regex': 'true' } : {},
          }),
        ),
        services: SERVICES,
      };
      const ordered = rules.toSorted(
        (a, b) => b.path.length - a.path.length || (a.path < b.path ? 1 : a.path > b.path ? -1 : 0),
      );
      const first = ordered.find((spec) => new RegExp(`^(?:${spec.path})`, 'i').test(path));
      expect(ask(compileRoutes(snapshot(world), SELECTION), 'h', path)).toBe(first?.service ?? 404);
    }),
    { numRuns: 500 },
  );
});
