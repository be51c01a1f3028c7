// A running DNS plane over a small cluster, for tests with real sockets.

import { createMetrics, type Metrics } from '../../src/observe/metrics.ts';
import { createLogger, type Logger } from '../../src/observe/log.ts';
import { systemClock } from '../../src/system/clock.ts';
import { startDnsPlane, type DnsPlane, type DnsPlaneOptions } from '../../src/dns/plane.ts';
import { until } from '../support/until.ts';
import { buildSnapshot, type ClusterFacts } from './snapshot-builder.ts';
import { ip } from '../support/values.ts';

const crowd = Array.from({ length: 150 }, (_, i) => ({ ip: `10.245.${i >> 7}.${i & 127}` }));

export const CLUSTER: ClusterFacts = {
  namespaces: ['shop'],
  services: [
    {
      namespace: 'shop',
      name: 'web',
      clusterIPs: ['10.96.10.1'],
      ports: [{ name: 'http', port: 80 }],
      slices: [{ ports: [{ name: 'http', port: 8080 }], endpoints: [{ ip: '10.244.1.11' }] }],
    },
    {
      namespace: 'shop',
      name: 'db',
      clusterIPs: [],
      ports: [{ name: 'pg', port: 5432 }],
      slices: [
        {
          ports: [{ name: 'pg', port: 15432 }],
          endpoints: [
            { ip: '10.244.2.10', hostname: 'db-0' },
            { ip: '10.244.2.11', hostname: 'db-1' },
          ],
        },
      ],
    },
    { namespace: 'shop', name: 'crowd', clusterIPs: [], slices: [{ endpoints: crowd }] },
    { namespace: 'shop', name: 'ext', externalName: 'www.example.test' },
  ],
};

export interface World {
  readonly plane: DnsPlane;
  readonly udp: { readonly address: string; readonly port: number };
  readonly metrics: Metrics;
  /** Lines of the log. */
  readonly lines: readonly string[];
}

export function recordingLog(): { readonly log: Logger; readonly lines: readonly string[] } {
  const lines: string[] = [];
  const log = createLogger({ format: 'text', verbosity: 0, write: (line) => void lines.push(line), now: Date.now });
  return { log, lines };
}

/** Listens on a port of 127.0.0.1 and answers for CLUSTER once it resolves. */
export async function startWorld(options: Partial<DnsPlaneOptions> = {}, cluster = CLUSTER): Promise<World> {
  const metrics = createMetrics();
  const { log, lines } = recordingLog();
  const plane = await startDnsPlane({
    listen: [{ address: ip('127.0.0.1'), port: 0 }],
    upstream: { kind: 'none' },
    log,
    metrics,
    clock: systemClock,
    ...options,
  });
  plane.update(buildSnapshot(cluster));
  await until(() => plane.ready);
  const [udp] = plane.addresses;
  if (!udp) throw new Error('nothing is listened on');
  return { plane, udp, metrics, lines };
}
