import { expect, test } from 'vitest';
import type { Ip } from '../../lib/ip.ts';
import { renderRules } from './rules.ts';
import { fillTemplate, parseStubDomains, parseUpstreamNameservers } from './template.ts';

const VALUES = {
  localIps: ['169.254.20.10', '10.96.0.10'] as Ip[],
  clusterDns: '10.96.0.11' as Ip,
  upstreamServers: ['/etc/resolv.conf'],
  clusterDomain: 'cluster.local',
  stubDomains: new Map([['example.org', ['192.0.2.53', '192.0.2.54:5353']]]),
};

test('the template of NodeLocal DNSCache is filled in, and each stub domain is a block', () => {
  const template = `__PILLAR__DNS__DOMAIN__:53 {
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__
}
.:53 {
    forward . __PILLAR__UPSTREAM__SERVERS__
}`;
  expect(fillTemplate(template, VALUES)).toEqual({
    kind: 'corefile',
    text: `cluster.local:53 {
    bind 169.254.20.10 10.96.0.10
    forward . 10.96.0.11
}
.:53 {
    forward . /etc/resolv.conf
}
example.org:53 {
    errors
    cache 30
    loop
    bind 169.254.20.10 10.96.0.10
    forward . 192.0.2.53 192.0.2.54:5353 {
        force_tcp
    }
}
`,
  });
  const without = { ...VALUES, clusterDns: undefined };
  expect(fillTemplate(template, without)).toEqual({ kind: 'needs-cluster-dns' });
  expect(fillTemplate('.:53 {\n}', { ...without, stubDomains: new Map() }).kind).toBe('corefile');
});

test('a ConfigMap that is not as it should be is a mistake, not half a list', () => {
  expect(parseUpstreamNameservers('["192.0.2.1", "[2001:db8::1]:53", "2001:db8::2"]').kind).toBe('value');
  for (const text of ['', 'x', '[]', '{}', '[1]', '["dns.example"]', '["192.0.2.1 }"]'])
    expect(parseUpstreamNameservers(text).kind).toBe('mistake');
  expect(parseStubDomains('{"example.org": ["192.0.2.1:53"]}').kind).toBe('value');
  for (const text of [
    '',
    '[]',
    'null',
    '{"a b": ["192.0.2.1"]}',
    '{"a": []}',
    '{"a": "192.0.2.1"}',
    '{"a {": ["192.0.2.1"]}',
  ])
    expect(parseStubDomains(text).kind).toBe('mistake');
});

test('rules name the addresses of each family, and only families that there are', () => {
  const both = renderRules({ ips: ['169.254.20.10', 'fd00::10'] as Ip[], healthPort: 8080 });
  expect(both).toContain('ip daddr { 169.254.20.10 } meta l4proto { tcp, udp } th dport 53 notrack');
  expect(both).toContain('ip6 saddr { fd00::10 } tcp sport 8080 notrack');
  expect(renderRules({ ips: ['169.254.20.10'] as Ip[], healthPort: 8080 })).not.toContain('ip6');
});
