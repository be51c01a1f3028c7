import { expect, test } from 'vitest';
import { ProxyHealth } from './proxy-health.ts';

const T0 = Date.parse('2026-01-01T00:00:00.120Z');

test('the answer is the one of kube-proxy', () => {
  const health = new ProxyHealth(30_000, T0);
  expect(health.healthz(T0 + 1000, true)).toEqual({
    status: 200,
    body: '{"lastUpdated":"2026-01-01T00:00:01.12Z","currentTime":"2026-01-01T00:00:01.12Z","nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":"2026-01-01T00:00:00.12Z","healthy":true},"IPv6":{"lastUpdated":"2026-01-01T00:00:00.12Z","healthy":true}}}',
  });
  expect(health.livez(T0 + 1880)).toEqual({
    status: 200,
    body: '{"lastUpdated":"2026-01-01T00:00:02Z","currentTime":"2026-01-01T00:00:02Z","healthy":true,"status":{"IPv4":{"lastUpdated":"2026-01-01T00:00:00.12Z","healthy":true},"IPv6":{"lastUpdated":"2026-01-01T00:00:00.12Z","healthy":true}}}',
  });
});

test('a change that waits for twice the sync period is unhealthy in its family, on both paths', () => {
  const health = new ProxyHealth(30_000, T0);
  health.queued(6, T0);
  expect(health.livez(T0 + 59_999).status).toBe(200);
  const { status, body } = health.livez(T0 + 60_000);
  expect(status).toBe(503);
  expect(JSON.parse(body)).toMatchObject({
    lastUpdated: '2026-01-01T00:00:00.12Z',
    healthy: false,
    status: { IPv4: { healthy: true }, IPv6: { healthy: false } },
  });
  health.updated(6, T0 + 60_000, T0 + 60_010);
  expect(health.livez(T0 + 60_011).status).toBe(200);
});

test('a node that leaves is not eligible, but alive', () => {
  const health = new ProxyHealth(30_000, T0);
  const { status, body } = health.healthz(T0 + 5000, false);
  expect(status).toBe(503);
  expect(JSON.parse(body)).toMatchObject({
    nodeEligible: false,
    healthy: true,
    lastUpdated: '2026-01-01T00:00:00.12Z',
  });
  expect(health.livez(T0 + 5000).status).toBe(200);
});

test('a change that came while a sync ran goes on waiting', () => {
  const health = new ProxyHealth(1000, T0);
  health.queued(4, T0);
  health.queued(4, T0 + 20);
  health.updated(4, T0 + 10, T0 + 30);
  expect(health.isHealthy(T0 + 2009)).toBe(true);
  expect(health.isHealthy(T0 + 2010)).toBe(false);
});

test('a new sync period counts at once', () => {
  const health = new ProxyHealth(1000, T0);
  health.queued(4, T0);
  expect(health.isHealthy(T0 + 3000)).toBe(false);
  health.setSyncPeriod(2000);
  expect(health.isHealthy(T0 + 3000)).toBe(true);
});
