import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { IngressListenError } from '../../src/ingress/listen-error.ts';
import { startIngressPlane } from '../../src/ingress/plane.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { startThread, type StartThread, type WorkerThread } from '../../src/system/worker-thread.ts';
import { LOOPBACK, exchange, httpPort, raw, routeAll, startBackend, startPlane } from './plane.ts';
import { ingress, service, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n';

/** Two workers, and the threads that were started for them. */
async function pool(options: Parameters<typeof startPlane>[0] = {}) {
  const threads: WorkerThread[] = [];
  const start: StartThread = (thread) => {
    const started = startThread(thread);
    threads.push(started);
    return started;
  };
  const metrics = createMetrics();
  const lines: string[] = [];
  const plane = await startPlane({
    workers: 2,
    startThread: start,
    metrics,
    accessLog: (text) => lines.push(text),
    ...options,
  });
  return { plane, threads, metrics, lines };
}

async function statusOf(port: number): Promise<string> {
  return (await exchange(port, GET)).slice(9, 12);
}

test('workers share the port, route by each change, count as one and write one access log', async () => {
  const { plane, metrics, lines } = await pool();
  const [one, two] = [await startBackend(), await startBackend()];
  expect(await statusOf(httpPort(plane))).toBe('503');
  routeAll(plane, one.address);
  await eventually('the routes in force', () => plane.ready);
  for (let i = 0; i < 40; i++) expect(await statusOf(httpPort(plane))).toBe('200');
  routeAll(plane, two.address);
  await eventually(
    'the change in force',
    () => two.requests.length > 0 || (void statusOf(httpPort(plane)), false),
    10_000,
  );
  const text = await metrics.text();
  const counted = [...text.matchAll(/^nginx_ingress_controller_requests\{[^}]*status="200"[^}]*\} ([0-9]+)$/gm)];
  expect(counted.reduce((sum, match) => sum + Number(match[1]), 0)).toBeGreaterThanOrEqual(40);
  expect(text).toMatch(/nginx_process_connections_total\{state="accepted"\} [0-9]{2,}/);
  await eventually('the access log', () => lines.join('').split('\n').length > 40, 10_000);
});

test('a worker that dies is replaced, and connections on the others go on', async () => {
  const { plane, threads, metrics } = await pool();
  const backend = await startBackend();
  routeAll(plane, backend.address);
  await eventually('the routes in force', () => plane.ready);
  const port = httpPort(plane);
  const open = await Promise.all(Array.from({ length: 12 }, () => raw(port)));
  const ask = async (connection: (typeof open)[number]): Promise<boolean> => {
    const before = connection.text().length;
    connection.send('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    return Promise.race([
      connection.ended().then(() => false),
      eventually('an answer', () => connection.text().length > before).then(
        () => true,
        () => false,
      ),
    ]);
  };
  await Promise.all(open.map(ask));
  await metrics.text();
  await threads[0]?.terminate();
  const alive = (await Promise.all(open.map(ask))).filter(Boolean).length;
  expect(alive).toBeGreaterThan(0);
  await eventually('a third thread', () => threads.length === 3, 10_000);
  // The kernel gives connections to a worker only once it listens: none is refused.
  for (let i = 0; i < 20; i++) expect(['200', '503']).toContain(await statusOf(port));
  await eventually('the routes with it, too', () => plane.ready);
  const text = await metrics.text();
  expect(text).toMatch(/nginx_ingress_controller_requests\{[^}]*status="200"/);
});

test('stop() lets requests under way finish in every worker', async () => {
  const { plane } = await pool({ graceMs: 5000 });
  const waiting: (() => void)[] = [];
  const backend = await startBackend((_request, response) => {
    waiting.push(() => void response.end('done'));
  });
  routeAll(plane, backend.address);
  await eventually('the routes in force', () => plane.ready);
  const answers = Array.from({ length: 8 }, () => exchange(httpPort(plane), GET));
  await eventually('all requests', () => waiting.length === 8);
  const stopped = plane.stop();
  for (const finish of waiting) finish();
  for (const answer of await Promise.all(answers)) expect(answer).toMatch(/^HTTP\/1\.1 200 [^]*done/);
  await stopped;
});

test('a TLS client resumes its session whichever worker it comes to, and gets the same default certificate', async () => {
  const { plane } = await pool({ https: { address: LOOPBACK, port: 0 } });
  routeAll(plane);
  await eventually('the routes in force', () => plane.ready);
  const port = plane.addresses.https?.port ?? 0;
  const handshake = (session?: Buffer) =>
    new Promise<{ reused: boolean; session: Buffer; serial: string }>((resolve, reject) => {
      const socket = connect({
        host: '127.0.0.1',
        port,
        rejectUnauthorized: false,
        maxVersion: 'TLSv1.2',
        ...(session ? { session } : {}),
      });
      onTestFinished(() => void socket.destroy());
      socket.on('error', reject);
      socket.on('secureConnect', () => {
        const own = socket.getSession();
        const { serialNumber: serial } = socket.getPeerCertificate();
        const reused = socket.isSessionReused();
        socket.destroy();
        if (own) resolve({ reused, session: own, serial });
        else reject(new Error('no session'));
      });
    });
  const first = await handshake();
  for (let i = 0; i < 8; i++) expect((await handshake(first.session)).reused).toBe(true);
  const serials = new Set(
    (await Promise.all(Array.from({ length: 8 }, () => handshake()))).map(({ serial }) => serial),
  );
  expect(serials).toEqual(new Set([first.serial]));
});

test('a port that is taken is told of as without workers, and flags hold in them', async () => {
  const taken = await startPlane();
  await expect(
    startIngressPlane({
      workers: 2,
      http: { address: LOOPBACK, port: httpPort(taken) },
      log: silentLogger,
      metrics: createMetrics(),
    }),
  ).rejects.toBeInstanceOf(IngressListenError);
  const { plane } = await pool({ disableCatchAll: true });
  const backend = await startBackend();
  plane.update(
    snapshot({
      ingresses: [ingress({ name: 'all', defaultBackend: { service: 'echo' } })],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
    }),
  );
  await eventually('the routes in force', () => plane.ready);
  expect(await statusOf(httpPort(plane))).toBe('404');
});

test('a client has its limits once, however many workers its connections come to', async () => {
  const { plane } = await pool();
  const backend = await startBackend();
  const rules = (path: string) => [{ host: 'a.example', paths: [{ path, service: 'echo' }] }];
  plane.update(
    snapshot({
      ingresses: [
        ingress({ name: 'rate', rules: rules('/rate'), annotations: { 'limit-rpm': '1' } }),
        ingress({ name: 'open', rules: rules('/open'), annotations: { 'limit-connections': '3' } }),
      ],
      services: [service({ name: 'echo', endpoints: [backend.address] })],
    }),
  );
  await eventually('the routes in force', () => plane.ready);
  const statuses: string[] = [];
  const started = performance.now();
  for (let i = 0; i < 40; i++) statuses.push((await exchange(httpPort(plane), GET.replace('/', '/rate'))).slice(9, 12));
  // One, and a burst of five; and one more for each minute that this took.
  const minutes = Math.floor((performance.now() - started) / 60_000);
  const passed = statuses.filter((status) => status === '200').length;
  expect(passed).toBeGreaterThanOrEqual(6);
  expect(passed).toBeLessThanOrEqual(6 + minutes + 1);
  // Bodies that never end: each request stays under way.
  const open = await Promise.all(Array.from({ length: 12 }, () => raw(httpPort(plane))));
  for (const connection of open) {
    connection.send('POST /open HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\n12345');
  }
  const refused = (): number => open.filter((connection) => connection.text().includes(' 503 ')).length;
  await eventually('all but three refused', () => refused() === 9);
  for (const connection of open) if (!connection.text().includes(' 503 ')) connection.send('67890');
  await eventually('three answered', () => open.filter((each) => each.text().includes(' 200 ')).length === 3);
  // A request counts until it is over in its worker, which may be a moment after its answer is here.
  let status = '';
  for (let tries = 0; tries < 100 && status !== '200'; tries++)
    status = (await exchange(httpPort(plane), GET.replace('/', '/open'))).slice(9, 12);
  expect(status).toBe('200');
});
