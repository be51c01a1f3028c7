// Names, types, labels and buckets of ingress-nginx' metrics: its Grafana dashboards and people's alerts read them.

import { request } from 'node:https';
import { expect, test } from 'vitest';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { LOOPBACK, exchange, httpPort, startBackend, startPlane } from './plane.ts';
import { cafe, ingress, service, snapshot, tlsSecret } from './world.ts';
import { eventually } from '../support/until.ts';

const OWN = ['controller_class', 'controller_namespace', 'controller_pod'];
const OF_REQUEST = ['canary', 'host', 'ingress', 'method', 'namespace', 'path', 'service', 'status'];
const OF_CERTIFICATE = ['class', 'host', 'identifier', 'namespace', 'secret_name'];
const SECONDS = ['0.005', '0.01', '0.025', '0.05', '0.1', '0.25', '0.5', '1', '2.5', '5', '10', '+Inf'];
const LENGTHS = ['10', '20', '30', '40', '50', '60', '70', '80', '90', '100', '+Inf'];
const BYTES = ['10', '100', '1000', '10000', '100000', '1000000', '10000000', '+Inf'];

interface Expected {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly buckets?: readonly string[];
}

const histogram = (buckets: readonly string[]): Expected => ({
  type: 'histogram',
  labels: [...OF_REQUEST, ...OWN],
  buckets,
});
const gauge = (...labels: readonly string[]): Expected => ({ type: 'gauge', labels: [...labels, ...OWN] });
const counter = (...labels: readonly string[]): Expected => ({ type: 'counter', labels: [...labels, ...OWN] });

const TABLE: Readonly<Record<string, Expected>> = {
  request_duration_seconds: histogram(SECONDS),
  response_duration_seconds: histogram(SECONDS),
  header_duration_seconds: histogram(SECONDS),
  connect_duration_seconds: histogram(SECONDS),
  request_size: histogram(LENGTHS),
  response_size: histogram(LENGTHS),
  bytes_sent: histogram(BYTES),
  requests: counter(...OF_REQUEST),
  build_info: gauge('release', 'build', 'repository'),
  config_hash: gauge(),
  config_last_reload_successful: gauge(),
  config_last_reload_successful_timestamp_seconds: gauge(),
  success: counter(),
  errors: counter(),
  ssl_expire_time_seconds: { type: 'gauge', labels: OF_CERTIFICATE },
  ssl_certificate_info: {
    type: 'gauge',
    labels: [...OF_CERTIFICATE, 'issuer_common_name', 'issuer_organization', 'public_key_algorithm', 'serial_number'],
  },
  orphan_ingress: gauge('namespace', 'ingress', 'type'),
  nginx_process_connections: gauge('state'),
  nginx_process_connections_total: counter('state'),
  nginx_process_requests_total: counter(),
  nginx_process_read_bytes_total: counter(),
  nginx_process_write_bytes_total: counter(),
  nginx_process_cpu_seconds_total: counter(),
  nginx_process_num_procs: gauge(),
  nginx_process_oldest_start_time_seconds: gauge(),
  nginx_process_resident_memory_bytes: gauge(),
  nginx_process_virtual_memory_bytes: gauge(),
};

const PREFIX = 'nginx_ingress_controller_';

async function planeWithTraffic(workers: number) {
  const metrics = createMetrics();
  const labels = {
    controller_class: 'k8s.io/ingress-nginx',
    controller_namespace: 'ingress-nginx',
    controller_pod: 'p-1',
  };
  const plane = await startPlane({
    metrics,
    workers,
    traffic: { labels },
    https: { address: LOOPBACK, port: 0 },
  });
  const backend = await startBackend();
  const { cert, key } = selfSigned('cafe.example', ['cafe.example'], Date.now(), 30);
  plane.update(
    snapshot({
      ingresses: [cafe(['tea', 'gone'], [{ hosts: ['cafe.example'], secretName: 'cafe' }])],
      services: [service({ name: 'tea', endpoints: [backend.address] })],
      secrets: [tlsSecret('cafe', cert, key)],
    }),
  );
  await eventually('the routes in force', () => plane.ready);
  expect(
    await exchange(httpPort(plane), 'GET /tea HTTP/1.1\r\nHost: cafe.example\r\nConnection: close\r\n\r\n'),
  ).toContain('200 OK');
  const port = plane.addresses.https?.port ?? 0;
  const status = await new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      path: '/tea',
      headers: { host: 'cafe.example' },
      rejectUnauthorized: false,
      agent: false,
    };
    request(options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    })
      .on('error', reject)
      .end();
  });
  expect(status).toBe(200);
  return metrics.text();
}

/** Of each metric: its type, its labels and its buckets. */
function described(text: string): Readonly<Record<string, Expected>> {
  const found: Record<string, Expected> = {};
  for (const [, name = '', type] of text.matchAll(/^# TYPE nginx_ingress_controller_(\S+) (\S+)$/gm)) {
    const samples = [
      ...text.matchAll(new RegExp(`^${PREFIX}${name}(?:_bucket|_sum|_count)?(?:\\{(.*)\\})? \\S+$`, 'gm')),
    ];
    const labels = samples.flatMap(([, all = '']) => [...all.matchAll(/([a-z_]+)="/g)].map(([, label = '']) => label));
    const buckets = samples.flatMap(([, all = '']) => /le="([^"]+)"/.exec(all)?.[1] ?? []);
    found[name] = {
      type: type as Expected['type'],
      labels: [...new Set(labels)].filter((label) => label !== 'le').sort(),
      ...(type === 'histogram' ? { buckets: [...new Set(buckets)] } : {}),
    };
  }
  return found;
}

const sorted = Object.fromEntries(
  Object.entries(TABLE).map(([name, { labels, ...rest }]) => [name, { ...rest, labels: [...labels].sort() }]),
);

test.each([0, 2])(
  "with %i workers every metric has ingress-nginx' name, type, labels and buckets, and there is no other of its prefix",
  async (workers) => {
    const text = await planeWithTraffic(workers);
    expect(described(text)).toEqual(sorted);
    expect(text).toMatch(
      /ssl_certificate_info\{.*issuer_common_name="cafe\.example",serial_number="[0-9]{20,}",public_key_algorithm="ECDSA"\} 1/,
    );
    expect(text).toMatch(/orphan_ingress\{.*ingress="cafe",type="no-service"\} 1/);
    expect(text).toMatch(/nginx_process_resident_memory_bytes\{.*\} [0-9]{7,}/);
  },
);

test.each([0, 2])('with %i workers what was counted of an Ingress goes with it, the rest stays', async (workers) => {
  const metrics = createMetrics();
  const plane = await startPlane({ metrics, workers });
  const backend = await startBackend();
  const services = [service({ name: 'tea', endpoints: [backend.address] })];
  const [short, long] = ['short', 'long'].map((name) =>
    ingress({ name, rules: [{ host: `${name}.example`, paths: [{ service: 'tea' }] }] }),
  );
  if (!short || !long) throw new Error('two Ingresses');
  plane.update(snapshot({ ingresses: [short, long], services }));
  await eventually('the routes in force', () => plane.ready);
  const get = (host: string): Promise<string> =>
    exchange(httpPort(plane), `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  for (const host of ['short.example', 'long.example']) expect(await get(host)).toContain('200 OK');
  const counted = async (): Promise<readonly string[]> =>
    [...(await metrics.text()).matchAll(/^nginx_ingress_controller_requests\{.*ingress="([a-z]+)"/gm)].map(
      ([, name = '']) => name,
    );
  await eventually('both counted', async () => [...(await counted())].sort().join() === 'long,short', 10_000);
  plane.update(snapshot({ ingresses: [long], services }));
  await eventually('the removal', async () => !(await counted()).includes('short'), 10_000);
  expect(await counted()).toContain('long');
});
