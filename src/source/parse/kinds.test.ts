import { Buffer } from 'node:buffer';
import { expect, test } from 'vitest';
import { parseConfigMap } from './config-map.ts';
import { parseEndpointSlice } from './endpoint-slice.ts';
import { parseIngressClass } from './ingress-class.ts';
import { parseNamespace } from './namespace.ts';
import { parseNode } from './node.ts';
import { parsePod } from './pod.ts';
import type { Parsed } from './reader.ts';
import { parseSecret } from './secret.ts';

function recordOf<T>(parsed: Parsed<T>): T {
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.errors));
  return parsed.record;
}

const labels = { 'kubernetes.io/service-name': 'web' };

test('an EndpointSlice keeps when its change was triggered, if that can be read', () => {
  const at = (time: string): number | undefined => {
    const annotations = { 'endpoints.kubernetes.io/last-change-trigger-time': time };
    return recordOf(
      parseEndpointSlice({ metadata: { name: 'a', labels, annotations }, addressType: 'IPv4' }, 'trusted'),
    )?.lastChangeTriggerTime;
  };
  expect(at('2026-01-02T03:04:05.678Z')).toBe(Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  expect(at('yesterday')).toBeUndefined();
});

test('an EndpointSlice keeps its first address, and conditions that are absent have their defaults', () => {
  const slice = recordOf(
    parseEndpointSlice(
      {
        metadata: { name: 'web-1', namespace: 'shop', labels },
        addressType: 'IPv4',
        ports: [
          { name: '', port: 8080, protocol: 'TCP' },
          { name: 'any', port: null },
          { name: 'zero', port: 0 },
          { port: 81 },
        ],
        endpoints: [
          {
            addresses: ['10.0.0.01', '10.0.0.2'],
            targetRef: { kind: 'Pod', name: 'web-1' },
            nodeName: 'n1',
            zone: 'z',
          },
          {
            addresses: ['10.0.0.3'],
            conditions: { ready: false, serving: true, terminating: true },
            hints: { forZones: [{ name: 'a' }, { name: 'b' }], forNodes: [{ name: 'n1' }] },
            hostname: 'h',
          },
          { addresses: ['nonsense'] },
          { addresses: ['fd00::1'] },
          { addresses: [] },
        ],
      },
      'trusted',
    ),
  );
  const common = { hostname: undefined, podName: undefined, zoneHints: undefined, nodeHints: undefined };
  expect(slice).toEqual({
    namespace: 'shop',
    name: 'web-1',
    serviceName: 'web',
    family: 4,
    ports: [{ name: '', protocol: 'TCP', port: 8080 }],
    endpoints: [
      {
        ...common,
        ip: '10.0.0.1',
        ready: true,
        serving: true,
        terminating: false,
        nodeName: 'n1',
        zone: 'z',
        podName: 'web-1',
      },
      {
        ip: '10.0.0.3',
        ready: false,
        serving: true,
        terminating: true,
        nodeName: undefined,
        zone: undefined,
        hostname: 'h',
        podName: undefined,
        zoneHints: ['a', 'b'],
        nodeHints: ['n1'],
      },
    ],
  });
});

test('a slice of type FQDN, or of no Service, leads nowhere', () => {
  expect(
    recordOf(parseEndpointSlice({ metadata: { name: 'a', labels }, addressType: 'FQDN' }, 'trusted')),
  ).toBeUndefined();
  expect(recordOf(parseEndpointSlice({ metadata: { name: 'a' }, addressType: 'IPv4' }, 'trusted'))).toBeUndefined();
});

test('a Node has its internal addresses first, and is leaving when tainted or deleted', () => {
  const node = {
    metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'z1' } },
    spec: { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24', 'fd00::/64'] },
    status: {
      addresses: [
        { type: 'Hostname', address: 'n1' },
        { type: 'ExternalIP', address: '203.0.113.1' },
        { type: 'InternalIP', address: '192.168.0.2' },
      ],
    },
  };
  expect(recordOf(parseNode(node, 'trusted'))).toEqual({
    name: 'n1',
    ips: ['192.168.0.2', '203.0.113.1'],
    zone: 'z1',
    podCIDRs: ['10.1.0.0/24', 'fd00::/64'],
    leaving: false,
  });
  const tainted = { ...node, spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] } };
  expect(recordOf(parseNode(tainted, 'trusted')).leaving).toBe(true);
  const deleted = { ...node, metadata: { name: 'n1', deletionTimestamp: '2026-01-01T00:00:00Z' } };
  expect(recordOf(parseNode(deleted, 'trusted')).leaving).toBe(true);
});

test('a Pod counts while it has an address', () => {
  const pod = (status: object) => ({ metadata: { name: 'p', namespace: 'shop' }, status });
  expect(recordOf(parsePod(pod({ podIP: '10.0.0.1' }), 'trusted'))).toEqual({
    namespace: 'shop',
    name: 'p',
    ip: '10.0.0.1',
  });
  expect(recordOf(parsePod(pod({ podIPs: [{ ip: 'fd00::1' }] }), 'trusted'))?.ip).toBe('fd00::1');
  expect(recordOf(parsePod(pod({}), 'trusted'))).toBeUndefined();
  expect(recordOf(parsePod(pod({ phase: 'Succeeded', podIP: '10.0.0.1' }), 'trusted'))).toBeUndefined();
});

test('a Secret is decoded, stringData wins, and no value of it is ever shown', () => {
  const pem = '-----BEGIN…';
  const data = { 'tls.crt': Buffer.from(pem).toString('base64'), a: 'YQ==' };
  const secret = {
    metadata: { name: 's', namespace: 'shop' },
    type: 'kubernetes.io/tls',
    data,
    stringData: { a: 'b' },
  };
  expect(recordOf(parseSecret(secret, 'strict'))).toEqual({
    namespace: 'shop',
    name: 's',
    type: 'kubernetes.io/tls',
    data: new Map([
      ['tls.crt', pem],
      ['a', 'b'],
    ]),
  });
  const broken = parseSecret({ metadata: { name: 's' }, data: { a: 'hunter2!' } }, 'strict');
  expect(broken.ok).toBe(false);
  expect(JSON.stringify(broken)).not.toContain('hunter2');
});

test('a ConfigMap, a Namespace and an IngressClass keep what is read of them', () => {
  expect(recordOf(parseConfigMap({ metadata: { name: 'c' }, data: { a: 'b' } }, 'strict')).data).toEqual(
    new Map([['a', 'b']]),
  );
  const wrong = parseConfigMap({ metadata: { name: 'c' }, data: { a: 1 } }, 'strict');
  expect(wrong).toMatchObject({
    ok: false,
    errors: [{ path: 'data.a', message: 'Invalid value: 1: must be a string' }],
  });
  expect(recordOf(parseNamespace({ metadata: { name: 'shop' } }, 'strict'))).toEqual({ name: 'shop' });
  const annotations = { 'ingressclass.kubernetes.io/is-default-class': 'true' };
  const made = { metadata: { name: 'nginx', annotations }, spec: { controller: 'k8s.io/ingress-nginx' } };
  expect(recordOf(parseIngressClass(made, 'strict'))).toEqual({
    name: 'nginx',
    controller: 'k8s.io/ingress-nginx',
    isDefault: true,
  });
});
