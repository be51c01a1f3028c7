import { expect, test } from 'vitest';
import { statusPage, statusRoutes } from './page.ts';

const STATE = {
  version: '1.2.3',
  snapshot: {
    revision: 7,
    node: { name: 'node-<a>' },
    services: {
      'shop/web': {
        carried: true,
        ports: {
          'shop/web:http/TCP/IPv4': {
            clusterIP: '172.30.0.1',
            port: 80,
            cluster: {
              kind: 'used',
              endpoints: [{ ip: '10.0.0.1', port: 8080 }],
              leftOut: [{ endpoint: { ip: '10.0.0.2', port: 8080 }, reason: 'not-ready' }],
            },
          },
        },
      },
      'shop/db': { carried: 'no: headless', ports: {} },
    },
  },
  planes: { dns: { zone: 'cluster.local' } },
};

test('the page shows each ServicePort with the endpoints in use, and those left out with their reason', () => {
  const page = statusPage(STATE);
  expect(page).toContain('shop/web:http/TCP/IPv4');
  expect(page).toContain('172.30.0.1:80');
  expect(page).toContain('10.0.0.1:8080');
  expect(page).toContain('10.0.0.2:8080 not-ready');
  expect(page).toContain('not carried, no: headless');
  expect(page).toContain('cluster.local');
});

test('names from the cluster cannot bring markup in', () => {
  expect(statusPage(STATE)).not.toContain('<a>');
  expect(statusPage(STATE)).toContain('node-&#60;a&#62;');
});

test('the page stands before the first Snapshot, too', () => {
  const answer = statusRoutes(() => ({ version: '1', snapshot: null, planes: {} })).get('/')?.();
  expect(answer).toMatchObject({ status: 200, contentType: 'text/html; charset=utf-8' });
  expect(answer?.body).toContain('<h1>fairlead 1</h1>');
});
