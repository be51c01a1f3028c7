// Records as a source gives them, for tests that are about a part of one.

import type { ServiceRecord } from '../../src/model/records.ts';
import { ip, port } from './values.ts';

/** `shop/web` at 172.30.0.1:80, and what is said otherwise. */
export function serviceRecord(over: Partial<ServiceRecord> = {}): ServiceRecord {
  return {
    namespace: 'shop',
    name: 'web',
    type: 'ClusterIP',
    clusterIPs: [ip('172.30.0.1')],
    headless: false,
    externalName: undefined,
    externalIPs: [],
    loadBalancerIPs: [],
    sourceRanges: [],
    ports: [{ name: 'http', protocol: 'TCP', port: port(80), nodePort: undefined }],
    affinityTimeoutSeconds: undefined,
    internalTrafficPolicy: 'Cluster',
    externalTrafficPolicy: 'Cluster',
    healthCheckNodePort: undefined,
    proxyName: undefined,
    ...over,
  };
}
