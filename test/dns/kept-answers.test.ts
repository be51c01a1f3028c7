import { expect, test } from 'vitest';
import { createMetrics } from '../../src/observe/metrics.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { systemClock } from '../../src/system/clock.ts';
import { KeptAnswers } from '../../src/dns/kept-answers.ts';
import { createDnsMetrics } from '../../src/dns/metrics.ts';
import { createDnsServer, type Arrival } from '../../src/dns/server.ts';
import { parseMessage } from '../../src/dns/wire/message.ts';
import { parseName } from '../../src/dns/wire/name.ts';
import { encodeQuery } from '../../src/dns/wire/query.ts';
import { FLAG, RCODE, RR } from '../../src/dns/wire/types.ts';
import { compileZone } from '../../src/dns/zone/compile.ts';
import { buildSnapshot, type ClusterFacts } from './snapshot-builder.ts';
import { CLUSTER } from './world.ts';
import { zoneSite } from './zone-site.ts';
import { ip } from '../support/values.ts';

const CLIENT = { address: '127.0.0.1', port: 4000 };

function zoneOf(facts: ClusterFacts, serial: number) {
  const origin = parseName('cluster.local');
  if (!origin) throw new Error('no name');
  return compileZone(buildSnapshot(facts), { origin, ttl: 5, pods: 'insecure', selfIps: [ip('127.0.0.1')] }, serial);
}

function world(facts = CLUSTER) {
  const metrics = createMetrics();
  const dnsMetrics = createDnsMetrics(metrics);
  const site = zoneSite(zoneOf(facts, 1));
  const counters = dnsMetrics.forServer('dns://:53');
  const kept = new KeptAnswers(counters);
  dnsMetrics.beforeText(() => kept.settle());
  const arrival: Arrival = {
    transport: 'udp',
    ipv6: false,
    address: '0.0.0.0',
    port: 53,
    metrics: counters,
    site,
    kept,
  };
  const server = createDnsServer({ log: silentLogger, metrics: dnsMetrics, clock: systemClock });
  const ask = (packet: Buffer): Buffer => {
    const answer = server.receive(packet, arrival, CLIENT);
    if (!(answer instanceof Buffer)) throw new Error('no answer at once');
    return Buffer.from(answer);
  };
  return { metrics, site, ask };
}

function question(name: string, type: number, id: number, more: { flags?: number; udpSize?: number } = {}): Buffer {
  const parsed = parseName(name);
  if (!parsed) throw new Error(name);
  return encodeQuery({ id, flags: more.flags ?? FLAG.RD, name: parsed, type, udpSize: more.udpSize });
}

const NAMES = [
  'web.shop.svc.cluster.local',
  'WEB.shop.svc.Cluster.local',
  'db.shop.svc.cluster.local',
  '_pg._tcp.db.shop.svc.cluster.local',
  'crowd.shop.svc.cluster.local',
  'nosuch.shop.svc.cluster.local',
  '1.10.96.10.in-addr.arpa',
  'cluster.local',
];

test('what is asked again and again is answered as the first time, but for the id and the address in front', () => {
  const { ask } = world();
  for (const name of NAMES) {
    for (const type of [RR.A, RR.AAAA, RR.SRV, RR.PTR, RR.SOA]) {
      for (const more of [{}, { flags: 0 }, { flags: FLAG.RD | FLAG.CD }, { udpSize: 1232 }, { udpSize: 4096 }]) {
        const inOrder = (packet: Buffer): unknown => {
          const message = parseMessage(packet);
          if (!message) throw new Error('no message');
          // What is cut off an answer that is too large depends on which address is in front.
          const answer = message.truncated ? [] : message.answer.map((record) => JSON.stringify(record)).sort();
          return { ...message, id: 0, answer };
        };
        const first = inOrder(ask(question(name, type, 1, more)));
        for (let id = 2; id < 7; id++) {
          const again = ask(question(name, type, id, more));
          expect(again.readUInt16BE(0)).toBe(id);
          expect(inOrder(again)).toEqual(first);
        }
      }
    }
  }
});

test('the addresses of a name take turns in front', () => {
  const { ask } = world();
  const firsts = new Set<string>();
  for (let id = 0; id < 20; id++)
    firsts.add(JSON.stringify(parseMessage(ask(question('db.shop.svc.cluster.local', RR.A, id)))?.answer[0]));
  expect(firsts.size).toBe(2);
});

test('a name that comes into being is answered at once, however often it was asked for before', () => {
  const { ask, site } = world();
  const rcode = (): number => (ask(question('new.shop.svc.cluster.local', RR.A, 7))[3] ?? 0) & 0xf;
  for (let i = 0; i < 5; i++) expect(rcode()).toBe(RCODE.NXDOMAIN);
  const services = [...(CLUSTER.services ?? []), { namespace: 'shop', name: 'new', clusterIPs: ['10.96.10.9'] }];
  site.routes = zoneSite(zoneOf({ ...CLUSTER, services }, 2)).routes;
  site.version++;
  for (let i = 0; i < 5; i++) expect(rcode()).toBe(RCODE.NOERROR);
});

test('answers that are given again are counted as every other', async () => {
  const { ask, metrics } = world();
  for (let id = 0; id < 50; id++) ask(question('web.shop.svc.cluster.local', RR.A, id));
  for (let id = 0; id < 30; id++) ask(question('nosuch.shop.svc.cluster.local', RR.AAAA, id));
  const text = await metrics.text();
  expect(text).toContain(
    'coredns_dns_requests_total{server="dns://:53",zone=".",view="",proto="udp",family="1",type="A"} 50',
  );
  expect(text).toContain(
    'coredns_dns_responses_total{server="dns://:53",zone=".",view="",rcode="NXDOMAIN",plugin="kubernetes"} 30',
  );
  expect(text).toContain('coredns_dns_request_duration_seconds_count{server="dns://:53",zone=".",view=""} 80');
  expect(text).toContain('coredns_dns_request_size_bytes_count{server="dns://:53",zone=".",view="",proto="udp"} 80');
  expect(text).toContain('coredns_dns_response_size_bytes_count{server="dns://:53",zone=".",view="",proto="udp"} 80');
});
