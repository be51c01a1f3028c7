// A cluster for the DNS benchmark: the same names as manifests, as a zone file, and as data for peers; and the questions asked of them.

export interface ClusterSize {
  readonly services: number;
  /** Of each Service. */
  readonly endpoints: number;
}

const NAMESPACES = 20;
export const ZONE = 'cluster.local';
/** What upstream answers, and is asked for. */
const OUTSIDE_NAMES = 1000;
export const OUTSIDE_ZONE = 'example.test';

export function serviceName(i: number): string {
  return `svc-${i}.ns-${i % NAMESPACES}.svc.${ZONE}`;
}

export function serviceAddress(i: number): string {
  return `10.96.${i >> 8}.${i & 255}`;
}

export function endpointAddress(service: number, i: number): string {
  const number = service * 64 + i;
  return `10.${128 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}

/** One Service and its EndpointSlice, as the API server has them. */
export function serviceObjects(i: number, endpoints: number): readonly Record<string, unknown>[] {
  const metadata = { namespace: `ns-${i % NAMESPACES}`, name: `svc-${i}` };
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: {
        type: 'ClusterIP',
        clusterIP: serviceAddress(i),
        clusterIPs: [serviceAddress(i)],
        ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }],
      },
    },
    endpointSlice(
      i,
      Array.from({ length: endpoints }, (_, n) => endpointAddress(i, n)),
    ),
  ];
}

export function endpointSlice(i: number, addresses: readonly string[]): Record<string, unknown> {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      namespace: `ns-${i % NAMESPACES}`,
      name: `svc-${i}-x`,
      labels: { 'kubernetes.io/service-name': `svc-${i}` },
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  };
}

export function manifests({ services, endpoints }: ClusterSize): string {
  const items: Record<string, unknown>[] = Array.from({ length: NAMESPACES }, (_, i) => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: `ns-${i}` },
  }));
  for (let i = 0; i < services; i++) items.push(...serviceObjects(i, endpoints));
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

/** The same names for servers that read a zone (RFC 1035 section 5). */
export function zoneFile({ services, endpoints }: ClusterSize): string {
  const lines = [
    `$ORIGIN ${ZONE}.`,
    '$TTL 30',
    '@ SOA ns.dns hostmaster 1 7200 1800 86400 30',
    '@ NS ns.dns',
    'ns.dns A 10.96.255.10',
  ];
  for (let i = 0; i < services; i++) {
    const name = serviceName(i).slice(0, -ZONE.length - 1);
    lines.push(`${name} A ${serviceAddress(i)}`, `_http._tcp.${name} SRV 0 100 80 ${name}`);
    for (let n = 0; n < endpoints; n++) {
      const address = endpointAddress(i, n);
      lines.push(`${address.replaceAll('.', '-')}.${name} A ${address}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

export function outsideName(i: number): string {
  return `host-${i % OUTSIDE_NAMES}.${OUTSIDE_ZONE}`;
}

export const MIXES = ['cluster', 'search', 'cached', 'misses'] as const;
export type Mix = (typeof MIXES)[number];

export const MIX_TITLES: Readonly<Record<Mix, string>> = {
  cluster: 'cluster names, A',
  search: 'search path: 3 NXDOMAIN and 1 answer, A and AAAA',
  cached: 'names outside, cached, A',
  misses: 'names outside, asked once each, A',
};

/** Lines of `name type` for dnsperf, `round` making names that were never asked. */
export function questions(mix: Mix, { services }: ClusterSize, round: number): string {
  const lines: string[] = [];
  switch (mix) {
    case 'cluster':
      for (let i = 0; i < services; i++) lines.push(`${serviceName(i)} A`);
      break;
    case 'search':
      // What glibc asks with ndots:5 from a Pod in ns-1 for a name in another namespace's Service, by its short form.
      for (let i = 0; i < services; i++) {
        const short = serviceName(i).replace(`.svc.${ZONE}`, '.svc.cluster.local');
        for (const suffix of [`ns-1.svc.${ZONE}`, `svc.${ZONE}`, ZONE])
          lines.push(`${short}.${suffix} A`, `${short}.${suffix} AAAA`);
        lines.push(`${short} A`, `${short} AAAA`);
      }
      break;
    case 'cached':
      for (let i = 0; i < OUTSIDE_NAMES; i++) lines.push(`${outsideName(i)} A`);
      break;
    case 'misses':
      for (let i = 0; i < 400_000; i++) lines.push(`r${round}-${i}.${OUTSIDE_ZONE} A`);
      break;
  }
  return `${lines.join('\n')}\n`;
}

/** kubeadm's Corefile, with ports of ours. */
export function kubeadmCorefile(ports: {
  readonly dns: number;
  readonly health: number;
  readonly ready: number;
  readonly metrics: number;
  readonly upstream: string;
}): string {
  return `.:${ports.dns} {
    bind 127.0.0.1
    errors
    health 127.0.0.1:${ports.health} {
       lameduck 1s
    }
    ready 127.0.0.1:${ports.ready}
    kubernetes ${ZONE} in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus 127.0.0.1:${ports.metrics}
    forward . ${ports.upstream} {
       max_concurrent 1000
    }
    cache 30 {
       disable success ${ZONE}
       disable denial ${ZONE}
    }
    loop
    reload
    loadbalance
}
`;
}
