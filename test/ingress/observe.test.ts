import { expect, test } from 'vitest';
import { createLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { exchange, httpPort, startBackend, startPlane } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';

const close = 'Connection: close\r\n';

test("requests are counted under ingress-nginx' names, by the path of the rule", async () => {
  const metrics = createMetrics();
  const plane = await startPlane({ metrics });
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [
        ingress({ name: 'cafe', rules: [{ host: 'cafe.example', paths: [{ path: '/tea', service: 'tea' }] }] }),
      ],
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
  const rules = [
    {
      host: 'cafe.example',
      paths: [
        { path: '/tea', service: 'tea' },
        { path: '/coffee', service: 'coffee' },
      ],
    },
  ];
  const first = snapshot({
    ingresses: [ingress({ name: 'cafe', rules })],
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
