// A cluster for the benchmark of memory, as objects of the API with the metadata that a real cluster's have: what is not kept must not be paid for.

import type { Json } from '../support/api-server/json.ts';

export const NODE = 'node-a';

/** A Node, and that many Services of type ClusterIP with an EndpointSlice each; with an Ingress each when asked for. */
export function clusterObjects(services: number, endpoints: number, ingresses: boolean): readonly Json[] {
  const objects: Json[] = [node()];
  for (let index = 0; index < services; index++) {
    objects.push(service(index), slice(index, endpoints));
    if (ingresses) objects.push(ingress(index));
  }
  return objects;
}

function metadata(name: string, labels: Json): Json {
  return {
    namespace: 'shop',
    name,
    labels,
    annotations: { 'meta.helm.sh/release-name': name, 'meta.helm.sh/release-namespace': 'shop' },
    creationTimestamp: '2026-01-01T00:00:00Z',
  };
}

function node(): Json {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: NODE, labels: { 'topology.kubernetes.io/zone': 'zone-a' } },
    spec: { podCIDR: '10.0.0.0/24', podCIDRs: ['10.0.0.0/24'] },
    status: { addresses: [{ type: 'InternalIP', address: '192.168.0.2' }] },
  };
}

function service(index: number): Json {
  const clusterIP = address(172, 0x1e_0001 + index);
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(`s${index}`, { app: `s${index}`, 'app.kubernetes.io/managed-by': 'Helm' }),
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      selector: { app: `s${index}` },
      ports: [{ name: 'main', port: 80, protocol: 'TCP', targetPort: 8080 }],
    },
  };
}

function slice(index: number, endpoints: number): Json {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: metadata(`s${index}-x7k2p`, { 'kubernetes.io/service-name': `s${index}` }),
    addressType: 'IPv4',
    ports: [{ name: 'main', port: 8080, protocol: 'TCP' }],
    endpoints: Array.from({ length: endpoints }, (_, i) => ({
      addresses: [address(10, index * endpoints + i + 1)],
      conditions: { ready: true, serving: true, terminating: false },
      // A hundred nodes.
      nodeName: i % 100 === 0 ? NODE : `node-${i % 100}`,
      zone: `zone-${'abc'.charAt(i % 3)}`,
      targetRef: { kind: 'Pod', namespace: 'shop', name: `s${index}-6d4b75cb6d-${i}` },
    })),
  };
}

function ingress(index: number): Json {
  const backend = { service: { name: `s${index}`, port: { number: 80 } } };
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: metadata(`s${index}`, { app: `s${index}` }),
    spec: { rules: [{ host: `s${index}.example.com`, http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } }] },
  };
}

function address(prefix: number, number: number): string {
  return `${prefix}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
}
