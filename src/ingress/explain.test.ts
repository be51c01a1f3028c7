import { expect, test } from 'vitest';
import { ingress, service, snapshot, tlsSecret } from '../../test/ingress/world.ts';
import { explainUrl, readUrl, type IngressExplanation } from './explain.ts';
import { compileRoutes } from './route-table.ts';
import { defaultGlobals, routingOptions } from './routing-options.ts';

const FLAGS = { watchIngressWithoutClass: true };

function explain(text: string): IngressExplanation {
  const world = {
    services: [service({ name: 'tea', endpoints: ['10.0.0.1:8080', '10.0.0.2:8080'] }), service({ name: 'milk' })],
    secrets: [tlsSecret('cafe', 'x', 'y')],
    ingresses: [
      ingress({
        name: 'cafe',
        createdAt: 1,
        tls: [{ hosts: ['cafe.test'], secretName: 'cafe' }],
        annotations: {
          'ssl-redirect': 'false',
          'allowlist-source-range': '10.0.0.0/8',
          'proxy-read-timeout': 'soon',
          'proxy-buffer-size': '8k',
        },
        rules: [
          {
            host: 'cafe.test',
            paths: [
              { path: '/', service: 'milk' },
              { path: '/tea', service: 'tea' },
              { path: '/tea/', pathType: 'ImplementationSpecific', service: 'milk' },
            ],
          },
        ],
      }),
      ingress({
        name: 'open',
        createdAt: 2,
        annotations: { 'auth-type': 'magic' },
        rules: [{ host: '*.test', paths: [{ path: '/', service: 'tea' }] }],
      }),
    ],
  };
  const url = readUrl(text);
  if (!url) throw new Error(`${text} is no URL`);
  return explainUrl(compileRoutes(snapshot(world), routingOptions(FLAGS, defaultGlobals(FLAGS), undefined)), url);
}

test('the rule that takes the URL, those that it goes before, and what each annotation does', () => {
  expect(explain('https://CAFE.test:443/tea?x=1')).toMatchObject({
    path: '/tea',
    host: { name: 'cafe.test', why: 'an Ingress names it', ingresses: ['default/cafe'] },
    certificate: 'Secret default/cafe (Ingress default/cafe)',
    location: { rule: 'cafe.test/tea (Prefix)', ingress: 'default/cafe' },
    passedOver: [{ rule: 'cafe.test/ (Prefix) of default/cafe', why: 'its path is shorter' }],
    annotations: [
      { name: 'ssl-redirect', effect: 'applied' },
      { name: 'allowlist-source-range', effect: 'applied' },
      { name: 'proxy-read-timeout', effect: 'no effect: "soon" is no number of seconds above 0' },
      { name: 'proxy-buffer-size' },
    ],
    backend: { backend: 'Service default/tea:80', endpoints: ['10.0.0.1:8080', '10.0.0.2:8080'], how: 'HTTP' },
    checks: ['clients outside 10.0.0.0/8 get 403'],
    answer: 'what one of the 2 endpoints of Service default/tea says to /tea',
    status: undefined,
  });
});

test('what keeps a request from a backend is the answer: no endpoint, an annotation that cannot be carried out, no rule', () => {
  expect(explain('http://cafe.test/x')).toMatchObject({
    status: 503,
    backend: { unavailable: 'the Service has no ready endpoint; look at its selector and its Pods' },
  });
  expect(explain('http://other.test/')).toMatchObject({
    host: { why: '*.test covers it, as no Ingress names it in full' },
    status: 503,
    annotations: [
      { name: 'auth-type', effect: expect.stringMatching(/^shuts the locations of this Ingress \(503\): /) as string },
    ],
  });
  expect(explain('http://nobody.example/')).toMatchObject({ status: 404, location: undefined, annotations: [] });
  expect(explain('http://cafe.test/%00')).toMatchObject({ status: 400, path: undefined });
});

test('a URL may stand without its scheme or its host, and nothing else passes for one', () => {
  expect(readUrl('cafe.test/tea')).toEqual({ scheme: 'http', host: 'cafe.test', path: '/tea' });
  expect(readUrl('/tea')).toEqual({ scheme: 'http', host: '', path: '/tea' });
  expect(readUrl('https://[::1]:8443')).toEqual({ scheme: 'https', host: '[::1]:8443', path: '/' });
  for (const text of ['', 'http://', 'http://a b/', 'ftp://a/', 'http://a/#x']) expect(readUrl(text)).toBeUndefined();
});
