// What each kind of name answers, by the DNS-based service discovery specification 1.1.0 and, where that is silent,
// as CoreDNS does. `authority` is the zone's SOA for every answer without records.

import { describe, expect, test } from 'vitest';
import { buildSnapshot, type ClusterFacts } from './snapshot-builder.ts';
import { resolveName } from '../../src/dns/text.ts';
import { parseName, type DnsName } from '../../src/dns/wire/name.ts';
import { compileZone, emptyZone } from '../../src/dns/zone/compile.ts';
import type { Zone, ZoneOptions } from '../../src/dns/zone/zone.ts';
import { ip } from '../support/values.ts';

const OPTIONS: ZoneOptions = {
  origin: parseName('cluster.local') as DnsName,
  ttl: 5,
  pods: 'insecure',
  selfIps: [ip('10.244.0.20')],
};

const http = { name: 'http', port: 80 };

const SHOP: ClusterFacts = {
  namespaces: ['shop', 'vacant'],
  services: [
    {
      namespace: 'kube-system',
      name: 'kube-dns',
      clusterIPs: ['10.96.0.10'],
      ports: [{ name: 'dns', protocol: 'UDP', port: 53 }],
      slices: [{ ports: [{ name: 'dns', protocol: 'UDP', port: 53 }], endpoints: [{ ip: '10.244.0.20' }] }],
    },
    {
      namespace: 'shop',
      name: 'web',
      clusterIPs: ['10.96.10.1'],
      ports: [http, { name: 'https', port: 443 }],
      slices: [
        {
          ports: [
            { name: 'http', port: 8080 },
            { name: 'https', port: 8443 },
          ],
          endpoints: [
            { ip: '10.244.1.11' },
            { ip: '10.244.1.12', hostname: 'Canary' },
            { ip: '10.244.1.13', ready: false },
          ],
        },
      ],
    },
    { namespace: 'shop', name: 'single', clusterIPs: ['10.96.10.2'], ports: [{ port: 9000 }] },
    {
      namespace: 'shop',
      name: 'dual',
      clusterIPs: ['10.96.10.3', 'fd00:10:96::a3'],
      ports: [http],
      slices: [{ ports: [http], endpoints: [{ ip: '10.244.1.31' }] }],
    },
    { namespace: 'shop', name: 'v6only', clusterIPs: ['fd00:10:96::a1'], ports: [http] },
    {
      namespace: 'shop',
      name: 'notready',
      clusterIPs: ['10.96.10.6'],
      ports: [http],
      slices: [{ ports: [http], endpoints: [{ ip: '10.244.1.41', ready: false }] }],
    },
    {
      namespace: 'shop',
      name: 'db',
      clusterIPs: [],
      ports: [{ name: 'pg', port: 5432 }],
      slices: [
        {
          ports: [
            { name: 'pg', port: 15432 },
            { name: 'metrics', port: 9187 },
          ],
          endpoints: [
            { ip: '10.244.2.10', hostname: 'db-0' },
            { ip: '10.244.2.11', hostname: 'db-1' },
            { ip: '10.244.2.12', hostname: 'db-2', ready: false },
          ],
        },
      ],
    },
    {
      namespace: 'shop',
      name: 'mesh6',
      clusterIPs: [],
      ports: [http],
      slices: [{ ports: [http], endpoints: [{ ip: 'fd00:244::15' }, { ip: 'fd00:244:1::' }] }],
    },
    { namespace: 'shop', name: 'noport', clusterIPs: [], slices: [{ endpoints: [{ ip: '10.244.2.30' }] }] },
    { namespace: 'shop', name: 'lonely', clusterIPs: [], ports: [http], slices: [{ ports: [http], endpoints: [] }] },
    {
      namespace: 'shop',
      name: 'dupe',
      clusterIPs: [],
      ports: [http],
      slices: [
        {
          ports: [{ name: 'grpc', port: 8000 }],
          endpoints: [
            { ip: '10.244.2.90', hostname: 'twin' },
            { ip: '10.244.2.91', hostname: 'twin' },
          ],
        },
      ],
    },
    {
      namespace: 'shop',
      name: 'skew',
      clusterIPs: [],
      ports: [http],
      slices: [
        { ports: [http], endpoints: [{ ip: '10.244.2.95' }, { ip: '10.244.2.96' }] },
        { ports: [http], endpoints: [{ ip: '10.244.2.95' }] },
      ],
    },
    {
      namespace: 'shop',
      name: 'alpha',
      clusterIPs: [],
      ports: [http],
      slices: [{ ports: [http], endpoints: [{ ip: '10.244.2.40', hostname: 'node-0' }] }],
    },
    {
      namespace: 'shop',
      name: 'beta',
      clusterIPs: ['10.96.10.9'],
      ports: [http],
      slices: [{ ports: [http], endpoints: [{ ip: '10.244.2.40' }] }],
    },
    { namespace: 'shop', name: 'ext', externalName: 'www.example.test' },
    { namespace: 'shop', name: 'ext-in', externalName: 'web.shop.svc.cluster.local.' },
    { namespace: 'shop', name: 'ext-chain', externalName: 'EXT-IN.shop.svc.cluster.local' },
    { namespace: 'shop', name: 'ext-missing', externalName: 'nosuch.shop.svc.cluster.local' },
    { namespace: 'shop', name: 'ext-self', externalName: 'ext-self.shop.svc.cluster.local' },
    { namespace: 'shop', name: 'ext-ip', externalName: '203.0.113.7' },
  ],
  pods: [{ namespace: 'shop', name: 'client', ip: '10.244.9.9' }],
};

const shop = zoneOf();

function zoneOf(options: Partial<ZoneOptions> = {}): Zone {
  return compileZone(buildSnapshot(SHOP), { ...OPTIONS, ...options }, 1700000000);
}

/**
 * `NODATA` or another code where there is no answer, its SOA checked; else the records, those of Additional after `+`,
 * without TTL and class, and without the end that all names below `svc` share.
 */
function ask(name: string, type: string, zone = shop): string[] {
  const full = name.endsWith('.') ? name : `${name}.cluster.local.`;
  const result = resolveName(zone, full, type);
  if (!result) throw new Error(`not a question: ${name} ${type}`);
  if (result.answers.length === 0) {
    const origin = /[^.]+\.[^.]+\.$/.exec(full)?.[0] ?? full;
    const soa = `${origin} 5 IN SOA ns.dns.${origin} hostmaster.${origin} 1700000000 7200 1800 86400 5`;
    const authority = result.rcode === 'REFUSED' ? '' : soa;
    if (result.authority.join('\n') !== authority) return ['the wrong SOA record', ...result.authority];
    return [result.rcode === 'NOERROR' ? 'NODATA' : result.rcode];
  }
  const short = (record: string): string => record.replace(' 5 IN ', ' ').replaceAll('.svc.cluster.local.', '');
  return [...result.answers.map(short), ...result.additional.map((record) => `+ ${short(record)}`)];
}

describe('a Service with an address', () => {
  test.each([
    ['web.shop.svc', 'A', ['web.shop A 10.96.10.1']],
    ['web.shop.svc', 'AAAA', ['NODATA']],
    ['v6only.shop.svc', 'AAAA', ['v6only.shop AAAA fd00:10:96::a1']],
    ['v6only.shop.svc', 'A', ['NODATA']],
    ['dual.shop.svc', 'A', ['dual.shop A 10.96.10.3']],
    ['dual.shop.svc', 'AAAA', ['dual.shop AAAA fd00:10:96::a3']],
    ['notready.shop.svc', 'A', ['notready.shop A 10.96.10.6']],
    ['web.shop.svc', 'TXT', ['NODATA']],
    ['web.shop.svc', 'SOA', ['NODATA']],
    ['web.shop.svc', 'ANY', ['NODATA']],
    ['web.shop.svc', 'HTTPS', ['NODATA']],
    ['web.shop.svc', 'AXFR', ['REFUSED']],
    ['nosuch.shop.svc', 'A', ['NXDOMAIN']],
    ['nosuch.shop.svc', 'SOA', ['NXDOMAIN']],
    ['web.nosuch.svc', 'A', ['NXDOMAIN']],
    ['a.b.c.web.shop.svc', 'A', ['NXDOMAIN']],
  ])('%s %s', (name, type, answer) => {
    expect(ask(name, type)).toEqual(answer);
  });

  test('keeps the case of the question, but the names that it adds are the objects’ own', () => {
    const result = resolveName(shop, '_HtTp._TcP.wEb.ShOp.SvC.cLuStEr.LoCaL.', 'SRV');
    expect(result).toMatchObject({
      answers: ['_HtTp._TcP.wEb.ShOp.SvC.cLuStEr.LoCaL. 5 IN SRV 0 100 80 web.shop.svc.cLuStEr.LoCaL.'],
      additional: ['web.shop.svc.cLuStEr.LoCaL. 5 IN A 10.96.10.1'],
    });
  });
});

describe('SRV', () => {
  test.each([
    ['_http._tcp.web.shop.svc', ['_http._tcp.web.shop SRV 0 100 80 web.shop', '+ web.shop A 10.96.10.1']],
    ['http.tcp.web.shop.svc', ['http.tcp.web.shop SRV 0 100 80 web.shop', '+ web.shop A 10.96.10.1']],
    ['web.shop.svc', ['web.shop SRV 0 50 80 web.shop', 'web.shop SRV 0 50 443 web.shop', '+ web.shop A 10.96.10.1']],
    ['single.shop.svc', ['single.shop SRV 0 100 9000 single.shop', '+ single.shop A 10.96.10.2']],
    [
      '_http._tcp.dual.shop.svc',
      ['_http._tcp.dual.shop SRV 0 50 80 dual.shop', '+ dual.shop A 10.96.10.3', '+ dual.shop AAAA fd00:10:96::a3'],
    ],
    [
      '_pg._tcp.db.shop.svc',
      [
        '_pg._tcp.db.shop SRV 0 50 15432 db-0.db.shop',
        '_pg._tcp.db.shop SRV 0 50 15432 db-1.db.shop',
        '+ db-0.db.shop A 10.244.2.10',
        '+ db-1.db.shop A 10.244.2.11',
      ],
    ],
    [
      'db-0.db.shop.svc',
      [
        'db-0.db.shop SRV 0 50 15432 db-0.db.shop',
        'db-0.db.shop SRV 0 50 9187 db-0.db.shop',
        '+ db-0.db.shop A 10.244.2.10',
      ],
    ],
    [
      '_grpc._tcp.dupe.shop.svc',
      [
        '_grpc._tcp.dupe.shop SRV 0 50 8000 twin.dupe.shop',
        '+ twin.dupe.shop A 10.244.2.90',
        '+ twin.dupe.shop A 10.244.2.91',
      ],
    ],
    ['noport.shop.svc', ['NODATA']],
    ['lonely.shop.svc', ['NXDOMAIN']],
    ['_nosuch._tcp.web.shop.svc', ['NXDOMAIN']],
    ['_http._udp.web.shop.svc', ['NXDOMAIN']],
    ['_tcp.web.shop.svc', ['NODATA']],
    ['_udp.web.shop.svc', ['NXDOMAIN']],
  ])('%s', (name, answer) => {
    expect(ask(name, 'SRV')).toEqual(answer);
  });
});

describe('a headless Service and endpoints', () => {
  test.each([
    ['db.shop.svc', 'A', ['db.shop A 10.244.2.10', 'db.shop A 10.244.2.11']],
    ['db-1.db.shop.svc', 'A', ['db-1.db.shop A 10.244.2.11']],
    ['db-2.db.shop.svc', 'A', ['NXDOMAIN']],
    ['skew.shop.svc', 'A', ['skew.shop A 10.244.2.95', 'skew.shop A 10.244.2.96']],
    ['twin.dupe.shop.svc', 'A', ['twin.dupe.shop A 10.244.2.90', 'twin.dupe.shop A 10.244.2.91']],
    ['mesh6.shop.svc', 'A', ['NODATA']],
    ['mesh6.shop.svc', 'AAAA', ['mesh6.shop AAAA fd00:244::15', 'mesh6.shop AAAA fd00:244:1::']],
    ['fd00-244-1--0.mesh6.shop.svc', 'AAAA', ['fd00-244-1--0.mesh6.shop AAAA fd00:244:1::']],
    ['noport.shop.svc', 'A', ['noport.shop A 10.244.2.30']],
    ['lonely.shop.svc', 'A', ['NXDOMAIN']],
    ['10-244-1-11.web.shop.svc', 'A', ['10-244-1-11.web.shop A 10.244.1.11']],
    ['canary.web.shop.svc', 'A', ['canary.web.shop A 10.244.1.12']],
    ['10-244-1-12.web.shop.svc', 'A', ['NXDOMAIN']],
    ['10-244-1-13.web.shop.svc', 'A', ['NXDOMAIN']],
  ])('%s %s', (name, type, answer) => {
    expect(ask(name, type)).toEqual(answer);
  });
});

describe('an ExternalName', () => {
  test.each([
    ['ext.shop.svc', 'A', ['ext.shop CNAME www.example.test.']],
    ['ext.shop.svc', 'CNAME', ['ext.shop CNAME www.example.test.']],
    ['ext.shop.svc', 'TXT', ['ext.shop CNAME www.example.test.']],
    ['ext.shop.svc', 'HTTPS', ['ext.shop CNAME www.example.test.']],
    ['ext.shop.svc', 'PTR', ['NODATA']],
    ['x.ext.shop.svc', 'A', ['NXDOMAIN']],
    ['_p._tcp.ext.shop.svc', 'SRV', ['NXDOMAIN']],
    ['ext-in.shop.svc', 'A', ['ext-in.shop CNAME web.shop', 'web.shop A 10.96.10.1']],
    ['ext-in.shop.svc', 'AAAA', ['NODATA']],
    [
      'ext-chain.shop.svc',
      'A',
      ['ext-chain.shop CNAME EXT-IN.shop', 'EXT-IN.shop CNAME web.shop', 'web.shop A 10.96.10.1'],
    ],
    ['ext-missing.shop.svc', 'A', ['NODATA']],
    ['ext-self.shop.svc', 'A', ['NODATA']],
    ['ext-ip.shop.svc', 'A', ['NXDOMAIN']],
  ])('%s %s', (name, type, answer) => {
    expect(ask(name, type)).toEqual(answer);
  });
});

describe('the zone itself', () => {
  test('the apex has SOA and NS, whose target is the Service that this server is an endpoint of', () => {
    expect(resolveName(shop, 'cluster.local', 'SOA')?.answers).toEqual([
      'cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1700000000 7200 1800 86400 5',
    ]);
    expect(resolveName(shop, 'cluster.local', 'NS')).toMatchObject({
      answers: ['cluster.local. 5 IN NS kube-dns.kube-system.svc.cluster.local.'],
      additional: ['kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10'],
    });
  });

  test('a server that is no Service’s endpoint names itself', () => {
    const zone = zoneOf({ selfIps: [ip('192.168.0.2'), ip('fd00::2')] });
    expect(resolveName(zone, 'cluster.local', 'NS')).toMatchObject({
      answers: ['cluster.local. 5 IN NS ns.dns.cluster.local.'],
      additional: ['ns.dns.cluster.local. 5 IN A 192.168.0.2', 'ns.dns.cluster.local. 5 IN AAAA fd00::2'],
    });
    expect(ask('ns.dns', 'AAAA', zone)).toEqual(['ns.dns.cluster.local. AAAA fd00::2']);
  });

  test.each([
    ['cluster.local.', 'A', ['NODATA']],
    ['cluster.local.', 'TXT', ['NODATA']],
    ['cluster.local.', 'ANY', ['NODATA']],
    ['svc', 'TXT', ['NODATA']],
    ['pod', 'A', ['NODATA']],
    ['shop.svc', 'SRV', ['NODATA']],
    ['shop.svc', 'TXT', ['NODATA']],
    ['vacant.svc', 'A', ['NODATA']],
    ['kube-system.svc', 'A', ['NODATA']],
    ['nosuch.svc', 'A', ['NXDOMAIN']],
    ['shop', 'A', ['NXDOMAIN']],
    ['a.b', 'PTR', ['NXDOMAIN']],
    ['dns', 'A', ['NXDOMAIN']],
    ['ns.dns', 'A', ['ns.dns.cluster.local. A 10.96.0.10']],
    ['www.example.test.', 'A', ['REFUSED']],
  ])('%s %s', (name, type, answer) => {
    expect(ask(name, type)).toEqual(answer);
  });

  test('dns-version says which specification this is', () => {
    expect(resolveName(shop, 'dns-version.cluster.local', 'TXT')?.answers).toEqual([
      'dns-version.cluster.local. 28800 IN TXT "1.1.0"',
    ]);
  });

  test('the TTL is configurable, and the SOA record’s own is at most 300', () => {
    const zone = zoneOf({ ttl: 3600 });
    expect(resolveName(zone, 'web.shop.svc.cluster.local', 'A')?.answers).toEqual([
      'web.shop.svc.cluster.local. 3600 IN A 10.96.10.1',
    ]);
    expect(resolveName(zone, 'x.shop.svc.cluster.local', 'A')?.authority).toEqual([
      'cluster.local. 300 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1700000000 7200 1800 86400 3600',
    ]);
  });
});

describe('reverse names', () => {
  test.each([
    ['1.10.96.10.in-addr.arpa.', 'PTR', ['1.10.96.10.in-addr.arpa. PTR web.shop']],
    ['11.1.244.10.in-addr.arpa.', 'PTR', ['11.1.244.10.in-addr.arpa. PTR 10-244-1-11.web.shop']],
    ['10.2.244.10.in-addr.arpa.', 'PTR', ['10.2.244.10.in-addr.arpa. PTR db-0.db.shop']],
    [
      '40.2.244.10.in-addr.arpa.',
      'PTR',
      ['40.2.244.10.in-addr.arpa. PTR node-0.alpha.shop', '40.2.244.10.in-addr.arpa. PTR 10-244-2-40.beta.shop'],
    ],
    [
      '3.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa.',
      'PTR',
      ['3.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR dual.shop'],
    ],
    ['1.10.96.10.in-addr.arpa.', 'A', ['NODATA']],
    ['12.2.244.10.in-addr.arpa.', 'PTR', ['NXDOMAIN']],
    ['96.10.in-addr.arpa.', 'PTR', ['NXDOMAIN']],
    ['01.10.96.10.in-addr.arpa.', 'PTR', ['NXDOMAIN']],
  ])('%s %s', (name, type, answer) => {
    expect(ask(name, type)).toEqual(answer);
  });

  test('the reverse zones have a SOA record', () => {
    expect(resolveName(shop, 'in-addr.arpa', 'SOA')?.answers).toEqual([
      'in-addr.arpa. 5 IN SOA ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 1700000000 7200 1800 86400 5',
    ]);
  });
});

describe('Pod names', () => {
  test.each([
    ['insecure', '172-31-0-2.shop.pod', 'A', ['172-31-0-2.shop.pod.cluster.local. A 172.31.0.2']],
    ['insecure', 'fd00-244--77.shop.pod', 'AAAA', ['fd00-244--77.shop.pod.cluster.local. AAAA fd00:244::77']],
    ['insecure', '172-31-0-2.shop.pod', 'AAAA', ['NODATA']],
    ['insecure', '172-31-0-2.nosuch.pod', 'A', ['NXDOMAIN']],
    ['insecure', 'blah.shop.pod', 'A', ['NXDOMAIN']],
    ['insecure', 'shop.pod', 'A', ['NODATA']],
    ['verified', '10-244-9-9.shop.pod', 'A', ['10-244-9-9.shop.pod.cluster.local. A 10.244.9.9']],
    ['verified', '10-244-9-9.vacant.pod', 'A', ['NXDOMAIN']],
    ['verified', '172-31-0-2.shop.pod', 'A', ['NXDOMAIN']],
    ['disabled', '10-244-9-9.shop.pod', 'A', ['NXDOMAIN']],
    ['disabled', 'shop.pod', 'A', ['NXDOMAIN']],
    ['disabled', 'pod', 'A', ['NODATA']],
  ] as const)('%s: %s %s', (pods, name, type, answer) => {
    expect(ask(name, type, zoneOf({ pods }))).toEqual(answer);
  });
});

describe('before the first Snapshot', () => {
  const empty = emptyZone(OPTIONS, 1700000000);

  test.each([
    ['web.shop.svc', 'A', ['SERVFAIL']],
    ['shop.svc', 'A', ['SERVFAIL']],
    ['svc', 'A', ['NODATA']],
    ['cluster.local.', 'A', ['NODATA']],
  ])('%s %s', (name, type, answer) => {
    expect(ask(name, type, empty)).toEqual(answer);
  });
});
