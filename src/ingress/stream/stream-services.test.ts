import { expect, test } from 'vitest';
import { readStreamServices } from './stream-services.ts';

function read(protocol: 'TCP' | 'UDP', data: Readonly<Record<string, string>>) {
  const map = { namespace: 'default', name: 'ports', data: new Map(Object.entries(data)) };
  return readStreamServices(protocol, map, new Set([80, 443]));
}

test('an entry names a Service and its port by number or name, and the PROXY protocol each way', () => {
  const { services, problems } = read('TCP', {
    '9000': 'default/db:5432',
    '9001': 'default/db:sql:PROXY',
    '9002': ' default/db:5432:PROXY:proxy ',
    '9003': 'default/db:5432::PROXY',
  });
  expect(problems).toEqual([]);
  expect(
    services.map(({ port, service, servicePort, proxyIn, proxyOut }) => [
      port,
      service,
      servicePort,
      proxyIn,
      proxyOut,
    ]),
  ).toEqual([
    [9000, 'default/db', { kind: 'number', number: 5432 }, false, false],
    [9001, 'default/db', { kind: 'name', name: 'sql' }, true, false],
    [9002, 'default/db', { kind: 'number', number: 5432 }, true, true],
    [9003, 'default/db', { kind: 'number', number: 5432 }, false, true],
  ]);
});

test.each([
  ['TCP', 'ssh', 'default/db:22', /no port/],
  ['TCP', '0', 'default/db:22', /no port/],
  ['TCP', '443', 'default/db:22', /for itself/],
  ['TCP', '9000', 'db:22', /names no Service/],
  ['TCP', '9000', 'default/db', /names no Service/],
  ['TCP', '9000', 'default/db:22:TLS', /more than PROXY/],
  ['TCP', '9000', 'default/db:22:PROXY:PROXY:PROXY', /more than PROXY/],
  ['TCP', '9000', 'default/db:70000', /70000 is no port/],
  ['UDP', '9000', 'default/db:53:PROXY', /for TCP/],
] as const)('%s %s: %s is refused, and the others are not', (protocol, key, value, reason) => {
  const { services, problems } = read(protocol, { [key]: value, '9999': 'default/other:53' });
  expect(services.map(({ port }) => port)).toEqual([9999]);
  expect(problems).toEqual([expect.objectContaining({ port: key, reason: expect.stringMatching(reason) as string })]);
});

test('UDP may have the number of a TCP port of this process, and without a ConfigMap there is nothing', () => {
  expect(read('UDP', { '443': 'default/quic:443' }).services).toHaveLength(1);
  expect(readStreamServices('TCP', undefined, new Set())).toEqual({ services: [], problems: [] });
});
