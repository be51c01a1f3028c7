import { describe, expect, test } from 'vitest';
import { healthCheckAddresses, healthCheckAnswer, type HealthCheck } from './plan.ts';
import { cidr, ip } from '../../../test/support/values.ts';

const ips = (...texts: string[]) => texts.map(ip);
const cidrs = (...texts: string[]) => texts.map(cidr);

describe('where health checks listen', () => {
  const node = ips('192.0.2.1', '2001:db8::1');
  const own = ips('127.0.0.1', '192.0.2.1', '198.51.100.7', '2001:db8::1');

  test.each([
    ['all', { kind: 'all' }, 4, ['0.0.0.0']],
    ['all, IPv6', { kind: 'all' }, 6, ['::']],
    ['primary', { kind: 'primary' }, 4, ['192.0.2.1']],
    ['primary, IPv6', { kind: 'primary' }, 6, ['2001:db8::1']],
    ['ranges', { kind: 'cidrs', cidrs: cidrs('198.51.100.0/24') }, 4, ['198.51.100.7']],
    ['no range of the family', { kind: 'cidrs', cidrs: cidrs('198.51.100.0/24') }, 6, ['::']],
  ] as const)('%s', (_what, config, family, expected) => {
    expect(healthCheckAddresses(config, family, node, own)).toEqual(expected);
  });

  test('a Node that is on loopback has no primary address for them', () => {
    expect(healthCheckAddresses({ kind: 'primary' }, 4, ips('127.0.0.1'), own)).toEqual([]);
  });
});

test('a node without endpoints, or whose rules do not keep up, is not to be used', () => {
  const check = { namespace: 'a', name: 'b', family: 4, localEndpoints: 2 } as HealthCheck;
  expect(healthCheckAnswer(check, true)).toMatchObject({
    status: 200,
    headers: { 'X-Load-Balancing-Endpoint-Weight': '2' },
  });
  expect(healthCheckAnswer(check, false).status).toBe(503);
  expect(healthCheckAnswer({ ...check, localEndpoints: 0 }, true).status).toBe(503);
  expect(JSON.parse(healthCheckAnswer(check, false).body)).toMatchObject({
    serviceProxyHealthy: false,
    localEndpoints: 2,
  });
});
