// Random clusters for property tests: few addresses and ports, so that Services meet on them.

import * as fc from 'fast-check';
import type { ServiceSketch } from './cluster.ts';

const NAMES = ['a', 'b', 'c', 'd'];
const policy = fc.constantFrom('Cluster' as const, 'Local' as const);
const endpoint = fc.constantFrom(
  '10.0.0.1:8080',
  '10.0.0.2:8080',
  '10.0.0.3:8080@node-b',
  '10.0.0.1:9090',
  '10.0.0.4:8080@node-b',
  '192.168.0.2:8080',
  '10.0.0.5:8080 terminating',
  '10.0.0.6:8080@node-b terminating',
  '[fd00:10::1]:8080',
  '[fd00:10::2]:8080@node-b',
);

/** A Service by the name; its ClusterIPs and NodePort are its own, as the API server sees to. */
function sketch(name: string): fc.Arbitrary<ServiceSketch> {
  const number = NAMES.indexOf(name) + 1;
  return fc
    .record({
      protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
      port: fc.constantFrom(80, 81),
      nodePort: fc.option(fc.constant(30_000 + number), { nil: undefined }),
      externalIPs: fc.subarray(['198.51.100.1', '198.51.100.2', '2001:db8:5::1']),
      loadBalancerIPs: fc.option(fc.subarray(['198.51.100.1', '198.51.100.9', '2001:db8:5::9']), { nil: undefined }),
      sourceRanges: fc.subarray(['10.0.0.0/8', '10.0.0.0/16', '203.0.113.0/24', '192.168.0.2/32', 'fd00:10::/64']),
      affinitySeconds: fc.option(fc.constantFrom(60, 3600), { nil: undefined }),
      internal: policy,
      external: policy,
      endpoints: fc.uniqueArray(endpoint, { maxLength: 6 }),
    })
    .map(({ nodePort, loadBalancerIPs, affinitySeconds, ...rest }) => ({
      name,
      clusterIPs: [`172.30.0.${number}`, `fd00:10:96::${number}`],
      ...rest,
      ...(nodePort === undefined ? {} : { nodePort }),
      ...(loadBalancerIPs === undefined ? {} : { loadBalancerIPs }),
      ...(affinitySeconds === undefined ? {} : { affinitySeconds }),
    }));
}

export const clusters: fc.Arbitrary<readonly ServiceSketch[]> = fc
  .subarray(NAMES)
  .chain((names) => fc.tuple(...names.map(sketch)));
