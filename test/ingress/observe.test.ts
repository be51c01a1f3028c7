import { expect, test } from 'vitest';
import { createLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { exchange, httpPort, startBackend, startPlane } from './plane.ts';
import { cafe, ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

const close = 'Connection: close\r\n';

test("requests are counted under ingress-nginx' names, by the path of the rule", async () => {
  const metrics = createMetrics();
  const plane = await startPlane({ metrics });
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [cafe(['tea'])],
      services: [service({ name: 'tea', endpoints: [backend.address] })],
    }),
  );
  const port = httpPort(plane);
  for (const method of ['GET', 'GET', 'MAKEUP1', 'MAKEUP2']) {
    await exchange(port, `${method} /tea/1 HTTP/1.1\r\nHost: cafe.example\r\n${close}\r\n`);
  }
  await exchange(port, `GET / HTTP/1.1\r\nHost: other\r\n${close}\r\n`);
  await exchange(port, 'rubbish\r\n\r\n');
  const text = await metrics.text();
  const tea = 'path="/tea",namespace="default",ingress="cafe",service="tea",canary=""';
  expect(text).toContain(`nginx_ingress_controller_requests{status="200",method="GET",${tea},host="cafe.example"} 2`);
  expect(text).toMatch(/nginx_ingress_controller_requests\{status="400",method="OTHER",path="\/tea"[^}]*\} 2/);
  expect(text).toMatch(/nginx_ingress_controller_requests\{status="404",method="GET",path="",[^}]*host="_"\} 1/);
  expect(text).toMatch(/nginx_ingress_controller_request_duration_seconds_bucket\{[^}]*le="\+Inf"\} 2/);
  expect(text).toMatch(/# TYPE nginx_ingress_controller_request_duration_seconds histogram/);
  expect(text).toMatch(/nginx_ingress_controller_nginx_process_requests_total 6/);
  expect(text).toMatch(/nginx_ingress_controller_nginx_process_connections\{state="active"\} [0-9]+/);
});

test('the state names hosts, locations, endpoints and connections, and a backend that cannot be used is logged once', async () => {
  const lines: string[] = [];
  const log = createLogger({ format: 'text', verbosity: 4, write: (line) => lines.push(line), now: () => Date.now() });
  const plane = await startPlane({ log });
  const first = snapshot({
    ingresses: [cafe(['tea', 'coffee'])],
    services: [service({ name: 'tea', endpoints: ['127.0.0.1:9'] })],
  });
  plane.update(first);
  plane.update(snapshot({ services: [service({ name: 'tea', endpoints: ['127.0.0.1:9', '127.0.0.2:9'] })] }, first));
  expect(plane.state()).toMatchObject({
    ready: true,
    connections: { clients: 0, backends: 0 },
    hosts: [
      {
        host: 'cafe.example',
        tls: false,
        locations: [
          {
            path: '/tea',
            pathType: 'Prefix',
            ingress: 'default/cafe',
            endpoints: [{ ip: '127.0.0.1' }, { ip: '127.0.0.2' }],
          },
          { path: '/coffee', endpoints: [], unavailable: 'no-service' },
        ],
      },
    ],
  });
  const warnings = lines.filter((line) => line.includes('WARN'));
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/backend=default\/coffee:80 reason=".*does not exist; create it/);
  await exchange(httpPort(plane), `GET /coffee HTTP/1.1\r\nHost: cafe.example\r\n${close}\r\n`);
  expect(lines.filter((line) => line.includes('DEBUG'))).toEqual([
    expect.stringMatching(/request method=GET host=cafe\.example path=\/coffee status=503 client=127\.0\.0\.1 /),
  ]);
});

const DEFAULT_LINE =
  /^127\.0\.0\.1 - anna \[\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET \/tea\?x=1 HTTP\/1\.1" 200 \d+ "-" "a\\x22b" 0 \d\.\d{3} \[default-tea-80\] \[-\] 127\.0\.0\.1:\d+ \d+ \d\.\d{3} 200 [0-9a-f]{32}$/;

test("the access log has ingress-nginx' line, or one of the ConfigMap's format, and leaves out what is not to be logged", async () => {
  let log = '';
  const plane = await startPlane({ accessLog: (text) => (log += text), configMap: 'system/settings' });
  const backend = await startBackend();
  const update = (settings: Readonly<Record<string, string>>): void =>
    plane.update(
      snapshot({
        ingresses: [
          cafe(['tea']),
          ingress({
            name: 'quiet',
            annotations: { 'enable-access-log': 'false' },
            rules: [{ host: 'quiet.example', paths: [{ service: 'tea' }] }],
          }),
        ],
        services: [service({ name: 'tea', endpoints: [backend.address] })],
        configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(settings)) }],
      }),
    );
  update({});
  const port = httpPort(plane);
  const user = `Authorization: Basic ${Buffer.from('anna:secret').toString('base64')}\r\nUser-Agent: a"b\r\n`;
  const ask = (path: string, host: string): Promise<string> =>
    exchange(port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${user}${close}\r\n`);
  await ask('/tea?x=1', 'cafe.example');
  await ask('/x', 'quiet.example');
  await ask('/x', 'unknown.example');
  await eventually('the line is written', () => log !== '');
  expect(log.trimEnd().split('\n')).toEqual([expect.stringMatching(DEFAULT_LINE)]);
  log = '';
  update({
    'log-format-upstream':
      '{"who":"$http_user_agent","path":"$uri","ingress":"$ingress_name","took":$request_time,"odd":"$nope"}',
    'log-format-escape-json': 'true',
    'skip-access-log-urls': '/tea/health',
  });
  await ask('/tea/health', 'cafe.example');
  await ask('/tea/1', 'cafe.example');
  await eventually('the line is written', () => log !== '');
  expect(JSON.parse(log)).toMatchObject({ who: 'a"b', path: '/tea/1', ingress: 'cafe', odd: '-' });
  log = '';
  update({ 'block-user-agents': 'nobody', 'whitelist-source-range': '203.0.113.0/24' });
  await ask('/tea/refused', 'cafe.example');
  await eventually('the line is written', () => log !== '');
  // An answer of our own is told of under the location that gave it.
  expect(log).toMatch(/"GET \/tea\/refused HTTP\/1\.1" 403 .*\[default-tea-80\]/);
  await plane.stop();
});

test('the access log may be off', async () => {
  let log = '';
  const plane = await startPlane({ accessLog: (text) => (log += text), configMap: 'system/settings' });
  const update = (settings: Readonly<Record<string, string>>): void =>
    plane.update(
      snapshot({ configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(settings)) }] }),
    );
  const port = httpPort(plane);
  const ask = (path: string, host: string): Promise<string> =>
    exchange(port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${close}\r\n`);
  update({ 'disable-access-log': 'true', 'enable-access-log-for-default-backend': 'true' });
  await ask('/tea/1', 'cafe.example');
  await plane.stop();
  expect(log).toBe('');
});

test('metrics of the controller, of connections and of sizes have the labels and buckets that were asked for', async () => {
  const metrics = createMetrics();
  const plane = await startPlane({
    metrics,
    version: '1.2.3',
    traffic: {
      perHost: false,
      statusClasses: true,
      timeBuckets: [1, 2],
      excluded: new Set(['bytes_sent']),
      labels: { controller_pod: 'p' },
    },
  });
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [cafe(['tea', 'milk'])],
      services: [service({ name: 'tea', endpoints: [backend.address] })],
    }),
  );
  await exchange(httpPort(plane), `GET /tea HTTP/1.1\r\nHost: cafe.example\r\n${close}\r\n`);
  const text = await metrics.text();
  const tea =
    'status="2xx",method="GET",path="/tea",namespace="default",ingress="cafe",service="tea",canary="",controller_pod="p"';
  for (const name of ['request', 'response', 'header', 'connect']) {
    expect(text).toContain(`nginx_ingress_controller_${name}_duration_seconds_bucket{${tea},le="1"} 1`);
  }
  expect(text).toContain(`nginx_ingress_controller_requests{${tea}} 1`);
  expect(text).not.toContain('bytes_sent');
  expect(text).toContain(
    'nginx_ingress_controller_build_info{controller_pod="p",release="1.2.3",build="",repository="fairlead"} 1',
  );
  expect(text).toContain('nginx_ingress_controller_config_last_reload_successful{controller_pod="p"} 1');
  expect(text).toMatch(/nginx_ingress_controller_config_hash\{controller_pod="p"\} [1-9][0-9]+/);
  expect(text).toContain('nginx_ingress_controller_success{controller_pod="p"} 1');
  expect(text).toContain(
    'nginx_ingress_controller_orphan_ingress{controller_pod="p",namespace="default",ingress="cafe",type="no-service"} 1',
  );
  expect(text).toMatch(/nginx_ingress_controller_nginx_process_write_bytes_total\{controller_pod="p"\} [1-9]/);
  expect(text).toContain('fairlead_ingress_retries_total{controller_pod="p"} 0');
  expect(text).toContain('fairlead_ingress_ejected_endpoints 0');
});
