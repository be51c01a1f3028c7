import { expect, test } from 'vitest';
import { cluster, type ServiceSpec } from './world.ts';
import { defaultRulesConfig } from '../../src/rules/config.ts';
import { renderUserspace } from '../../src/rules/userspace/render.ts';
import { cidr, ip } from '../support/values.ts';

test('renders listeners and their endpoints, the same for the same Snapshot', () => {
  const services: readonly ServiceSpec[] = [
    {
      name: 'web',
      ip: '127.96.0.1',
      port: 80,
      nodePort: 30080,
      affinityTimeoutSeconds: 600,
      externalTrafficPolicy: 'Local',
      endpoints: [
        { ip: '127.0.1.1', port: 8080 },
        { ip: '127.0.1.2', port: 8080, node: 'node-b' },
      ],
    },
    {
      name: 'db',
      ip: '127.96.0.2',
      port: 6379,
      loadBalancerIPs: [{ ip: ip('198.51.100.7'), vip: true }],
      sourceRanges: [cidr('203.0.113.0/24')],
      endpoints: [{ ip: '127.0.1.3', port: 6379 }],
    },
    { name: 'none', ip: '127.96.0.3', port: 80, endpoints: [] },
    { name: 'signal', ip: '127.96.0.4', port: 80, protocol: 'SCTP', endpoints: [] },
  ];
  const node = { name: 'node-a', ips: [ip('192.168.0.2')], zone: undefined, podCIDRs: [] };
  const text = renderUserspace(cluster(services, undefined, node).snapshot, defaultRulesConfig);
  const nodePort = (address: string): string =>
    `TCP ${address}:30080 shop/web nodePort affinity 600s
    from outside -> 127.0.1.1:8080
    from this node and its pods -> 127.0.1.1:8080
    from this node and its pods -> 127.0.1.2:8080
`;
  expect(text).toBe(
    `${nodePort('127.0.0.1')}TCP 127.96.0.1:80 shop/web clusterIP affinity 600s
    -> 127.0.1.1:8080
    -> 127.0.1.2:8080
TCP 127.96.0.2:6379 shop/db clusterIP
    -> 127.0.1.3:6379
${nodePort('192.168.0.2')}TCP 198.51.100.7:6379 shop/db loadBalancerIP
    only from 203.0.113.0/24, others dropped
    -> 127.0.1.3:6379
# SCTP shop/signal: not in userspace
`,
  );
  expect(renderUserspace(cluster([...services].reverse(), undefined, node).snapshot, defaultRulesConfig)).toBe(text);
});
