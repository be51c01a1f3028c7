import { expect, test } from 'vitest';
import { parseService } from './service.ts';

const service = (spec: object, status?: object): object => ({
  metadata: { name: 'web', namespace: 'shop' },
  spec,
  status,
});

const errorsOf = (spec: object): readonly string[] => {
  const parsed = parseService(service(spec), 'strict');
  return parsed.ok ? [] : parsed.errors.map(({ path, message }) => `${path}: ${message}`);
};

test('takes what an API server answers, with addresses in canonical form', () => {
  const parsed = parseService(
    service(
      {
        type: 'LoadBalancer',
        clusterIP: '172.30.0.041',
        clusterIPs: ['172.30.0.041', 'FD00:10:96::0001'],
        externalIPs: ['192.168.99.012'],
        loadBalancerSourceRanges: [' 203.0.113.000/025'],
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 32_209,
        sessionAffinity: 'ClientIP',
        ports: [{ name: 'http', port: 80, nodePort: 30_080 }],
      },
      {
        loadBalancer: {
          ingress: [{ ip: '1.2.3.4' }, { ip: '1.2.3.5', ipMode: 'Proxy' }, { hostname: 'lb.example' }],
        },
      },
    ),
    'trusted',
  );
  expect(parsed).toEqual({
    ok: true,
    notices: [],
    record: {
      namespace: 'shop',
      name: 'web',
      type: 'LoadBalancer',
      clusterIPs: ['172.30.0.41', 'fd00:10:96::1'],
      headless: false,
      externalName: undefined,
      externalIPs: ['192.168.99.12'],
      loadBalancerIPs: [
        { ip: '1.2.3.4', vip: true },
        { ip: '1.2.3.5', vip: false },
      ],
      loadBalancerHostnames: ['lb.example'],
      sourceRanges: ['203.0.113.0/25'],
      ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 30_080 }],
      affinityTimeoutSeconds: 10_800,
      internalTrafficPolicy: 'Cluster',
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 32_209,
      proxyName: undefined,
    },
  });
});

test('a field that is wrong in an object of the API server is left out with a notice', () => {
  const parsed = parseService(
    service({ clusterIP: '10.0.0.1', externalIPs: ['nonsense', '192.0.2.1'], ports: [{ port: 70_000 }, { port: 80 }] }),
    'trusted',
  );
  if (!parsed.ok) throw new Error('refused');
  expect(parsed.record.externalIPs).toEqual(['192.0.2.1']);
  expect(parsed.record.ports.map(({ port }) => port)).toEqual([80]);
  expect(parsed.notices).toEqual([
    'spec.externalIPs[0]: Invalid value: "nonsense": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff) (left out)',
    'spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive (left out)',
  ]);
});

test.each([undefined, null, 'text', [], {}, { metadata: 7 }, { metadata: { name: 7 } }])(
  'what is no Service is refused in either mode: %j',
  (value) => {
    expect(parseService(value, 'trusted').ok).toBe(false);
    expect(parseService(value, 'strict').ok).toBe(false);
  },
);

test.each<[string, object, readonly string[]]>([
  [
    'a port out of range',
    { ports: [{ port: 70_000 }] },
    ['spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive'],
  ],
  [
    'a port of the wrong type',
    { ports: [{ port: '80' }] },
    ['spec.ports[0].port: Invalid value: "80": must be a whole number'],
  ],
  ['a port without a number', { ports: [{ name: 'http' }] }, ['spec.ports[0].port: Required value']],
  [
    'an unknown protocol',
    { ports: [{ port: 80, protocol: 'HTTP' }] },
    ['spec.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"'],
  ],
  [
    'an unknown type',
    { type: 'Loadbalancer', ports: [{ port: 80 }] },
    [
      'spec.type: Unsupported value: "Loadbalancer": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ],
  ],
  [
    'several ports without names',
    { ports: [{ port: 80 }, { port: 81, name: 'b' }] },
    ['spec.ports[0].name: Required value: each of several ports needs a name'],
  ],
  [
    'the same name twice, the same number twice',
    {
      ports: [
        { port: 80, name: 'a' },
        { port: 80, name: 'a' },
      ],
    },
    ['spec.ports[1].name: Duplicate value: "a"', 'spec.ports[1]: Duplicate value: {"protocol":"TCP","port":80}'],
  ],
  ['no ports', {}, ['spec.ports: Required value: a Service needs a port unless it is headless or an ExternalName']],
  [
    'an ExternalName without the name',
    { type: 'ExternalName' },
    ['spec.externalName: Required value: an ExternalName Service needs the name that it stands for'],
  ],
  [
    'a range that is none',
    { type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.0/40'], ports: [{ port: 80 }] },
    [
      'spec.loadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/40": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
    ],
  ],
  [
    'an affinity time out of range',
    { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } }, ports: [{ port: 80 }] },
    [
      'spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than or equal to 86400',
    ],
  ],
  [
    'a node port on a ClusterIP',
    { ports: [{ port: 80, nodePort: 30_000 }] },
    ["spec.ports[0].nodePort: Forbidden: may not be used when 'type' is not NodePort or LoadBalancer"],
  ],
  [
    'ports that are no list',
    { clusterIP: 'None', ports: 'none' },
    ['spec.ports: Invalid value: "none": must be a list'],
  ],
])('refuses %s in a manifest', (_title, spec, errors) => {
  expect(errorsOf(spec)).toEqual(errors);
});

test('a slip of the pen in a manifest is told, with what was meant', () => {
  const spec = { ports: [{ port: 80, targetport: 8080 }], selectors: {} };
  const parsed = parseService(service(spec), 'strict');
  expect(parsed.ok && parsed.notices).toEqual([
    'spec.selectors: unknown field, not read',
    'spec.ports[0].targetport: unknown field, not read: did you mean targetPort?',
  ]);
  const trusted = parseService(service(spec), 'trusted');
  expect(trusted.ok && trusted.notices).toEqual([]);
});
