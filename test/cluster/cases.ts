// What has to hold on any cluster, without rights on its nodes: each role reads it with a kubeconfig, and serves from this machine.

import { Resolver } from 'node:dns/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Json } from '../support/api-server/json.ts';
import { get } from '../support/laptop.ts';
import type { FairleadProcess } from '../support/process.ts';
import { until } from '../support/until.ts';
import type { ClusterTarget } from './target.ts';

export function clusterCases(what: string, open: () => Promise<ClusterTarget>): void {
  describe(what, () => {
    let cluster: ClusterTarget;
    beforeAll(async () => {
      cluster = await open();
    });
    afterAll(() => cluster?.close());

    test('proxy carries a NodePort to the endpoints of a slice, follows them, and lets go of a Service that is deleted', async () => {
      const [a, b] = [await cluster.serve('a'), await cluster.serve('b')];
      const service = { ...SERVICE('proxied'), spec: { type: 'NodePort', ports: PORTS } };
      const { spec } = await cluster.create(service);
      const { nodePort = 0 } = (spec as { ports: { nodePort?: number }[] }).ports[0] ?? {};
      await cluster.create(SLICE('proxied', a));
      const running = cluster.run(
        'proxy',
        '--mode=userspace',
        '--node-name=fairlead-test',
        '--nodeport-addresses=127.0.0.0/8',
        '--metrics-bind-address=127.0.0.1:0',
        '--healthz-bind-address=127.0.0.1:0',
        '--oom-score-adj=0',
      );
      const answers = (expected: string): Promise<unknown> =>
        until(async () => (await get('127.0.0.1', nodePort)) === expected);
      await answers('a');
      await cluster.replace(SLICE('proxied', b));
      await answers('b');
      const probes = await portOf(running, 'health');
      await until(async () => (await fetch(`http://127.0.0.1:${probes}/readyz`)).ok);
      expect((await fetch(`http://127.0.0.1:${probes}/livez`)).status).toBe(200);
      await cluster.delete(service);
      await answers('ECONNREFUSED');
    });

    test('dns answers Services of the cluster, with and without addresses of their own, and follows them', async () => {
      const endpoint = { ip: '192.0.2.7', port: 8080 };
      const service = { ...SERVICE('named'), spec: { ports: PORTS } };
      const { spec } = await cluster.create(service);
      const { clusterIP } = spec as { clusterIP: string };
      await cluster.create({ ...SERVICE('headless'), spec: { clusterIP: 'None', ports: PORTS } });
      await cluster.create(SLICE('headless', endpoint));
      const running = cluster.run(
        'dns',
        '--dns-bind-address=127.0.0.1:0',
        '--upstream=127.0.0.1:9',
        ...['metrics', 'health', 'ready'].map((name) => `--${name}-bind-address=127.0.0.1:0`),
      );
      const [metrics, readiness] = [await portOf(running, 'metrics and state'), await portOf(running, 'readiness')];
      await until(async () => (await fetch(`http://127.0.0.1:${readiness}/ready`)).ok);
      const { planes } = (await (await fetch(`http://127.0.0.1:${metrics}/state`)).json()) as {
        planes: { dns: { listen: { port: number }[] } };
      };
      const resolver = new Resolver({ timeout: 2_000, tries: 2 });
      resolver.setServers([`127.0.0.1:${planes.dns.listen[0]?.port ?? 0}`]);
      const zone = `${cluster.namespace}.svc.cluster.local`;
      expect(await resolver.resolve4(`named.${zone}`)).toEqual([clusterIP]);
      expect(await resolver.resolve4(`headless.${zone}`)).toEqual([endpoint.ip]);
      expect(await resolver.resolveSrv(`_main._tcp.named.${zone}`)).toMatchObject([
        { name: `named.${zone}`, port: 80 },
      ]);
      await cluster.delete(service);
      await until(async () => (await codeOf(resolver.resolve4(`named.${zone}`))) === 'ENOTFOUND');
    });

    test('ingress routes by the Ingresses of its class, and follows them', async () => {
      const [a, b] = [await cluster.serve('a'), await cluster.serve('b')];
      const name = cluster.namespace;
      await cluster.create({ ...SERVICE('routed'), spec: { ports: PORTS } });
      await cluster.create(SLICE('routed', a));
      await cluster.create({
        apiVersion: 'networking.k8s.io/v1',
        kind: 'IngressClass',
        metadata: { name },
        spec: { controller: `fairlead.test/${name}` },
      });
      const path = {
        path: '/',
        pathType: 'Prefix',
        backend: { service: { name: 'routed', port: { number: 80 } } },
      };
      const ingress = {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'Ingress',
        metadata: { name: 'routed' },
        spec: { ingressClassName: name, rules: [{ host: 'routed.example.com', http: { paths: [path] } }] },
      };
      await cluster.create(ingress);
      const running = cluster.run(
        'ingress',
        `--watch-namespace=${name}`,
        `--ingress-class=${name}`,
        `--controller-class=fairlead.test/${name}`,
        '--http-port=0',
        '--https-port=0',
        '--healthz-port=0',
        '--update-status=false',
      );
      const metrics = await portOf(running, 'metrics and health');
      await until(async () => (await fetch(`http://127.0.0.1:${metrics}/readyz`)).ok);
      const { planes } = (await (await fetch(`http://127.0.0.1:${metrics}/state`)).json()) as {
        planes: { ingress: { addresses: { http: { port: number } } } };
      };
      const { port } = planes.ingress.addresses.http;
      const ask = (): Promise<string> => get('127.0.0.1', port, '/', 'routed.example.com');
      expect(await ask()).toBe('a');
      await cluster.replace(SLICE('routed', b));
      await until(async () => (await ask()) === 'b');
      await cluster.delete(ingress);
      await until(async () => (await ask()) === '404');
    });
  });
}

const PORTS: readonly Json[] = [{ name: 'main', port: 80, protocol: 'TCP', targetPort: 8080 }];

const SERVICE = (name: string): Json => ({ apiVersion: 'v1', kind: 'Service', metadata: { name } });

const SLICE = (service: string, { ip, port }: { readonly ip: string; readonly port: number }): Json => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${service}-1`, labels: { 'kubernetes.io/service-name': service } },
  addressType: 'IPv4',
  ports: [{ name: 'main', port, protocol: 'TCP' }],
  endpoints: [{ addresses: [ip], conditions: { ready: true } }],
});

/** The port of an endpoint, from the line that tells of it. */
async function portOf(running: FairleadProcess, what: string): Promise<number> {
  const line = await running.logged(({ message }) => message === `listening for ${what}`);
  return Number(line['port']);
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );
}
