import { describe, expect, test } from 'vitest';
import { PersistentMap } from '../lib/persistent-map.ts';
import { dnsNamesOf, explainCarried, explainPort, nearServices } from './explain.ts';
import type { EndpointSliceRecord, ServiceRecord, SliceEndpoint } from './records.ts';
import { resolveService } from './resolve.ts';
import type { NodeIdentity, Snapshot } from './snapshot.ts';
import { ip, port } from '../../test/support/values.ts';
import { serviceRecord } from '../../test/support/records.ts';

const NODE: NodeIdentity = { name: 'node-a', ips: [], zone: 'zone-a', podCIDRs: [] };

const web = serviceRecord();

function explained(
  endpoints: readonly (Partial<SliceEndpoint> & { at: string })[],
  service: Partial<ServiceRecord> = {},
  node: NodeIdentity = NODE,
) {
  const record = { ...web, ...service };
  const slice: EndpointSliceRecord = {
    namespace: 'shop',
    name: 'web-1',
    serviceName: 'web',
    family: 4,
    ports: [{ name: 'http', protocol: 'TCP', port: port(8080) }],
    endpoints: endpoints.map(({ at, ...rest }) => ({
      ip: ip(at),
      ready: true,
      serving: true,
      terminating: false,
      nodeName: 'node-b',
      zone: undefined,
      hostname: undefined,
      podName: undefined,
      zoneHints: undefined,
      nodeHints: undefined,
      ...rest,
    })),
  };
  const resolved = resolveService('shop/web', record, [slice], node);
  const [first] = resolved.ports;
  if (!first) throw new Error('no port');
  return explainPort(resolved, first, node);
}

const leftOut = (explanation: ReturnType<typeof explained>) =>
  explanation.sets.flatMap((set) => set.leftOut.map(({ address, why, mend }) => [address, why, mend ?? '']));

describe('every reason is a sentence, with the mend where there is one', () => {
  test('not ready: what to look at', () => {
    expect(leftOut(explained([{ at: '10.0.0.1', ready: false, serving: false, podName: 'web-1' }]))).toEqual([
      ['10.0.0.1:8080', 'it is not ready', expect.stringContaining('kubectl -n shop describe pod web-1')],
    ]);
    expect(leftOut(explained([{ at: '10.0.0.1', ready: false }]))[0]?.[2]).toContain('kubernetes.io/service-name=web');
  });

  test('terminating', () => {
    const rows = leftOut(
      explained([
        { at: '10.0.0.1' },
        { at: '10.0.0.2', ready: false, terminating: true },
        { at: '10.0.0.3', ready: false, serving: false, terminating: true },
      ]),
    );
    expect(rows[0]?.[1]).toMatch(/terminating, and others are ready/);
    expect(rows[1]?.[1]).toMatch(/no longer passes its readiness probe/);
  });

  test('not on this node', () => {
    const rows = leftOut(
      explained([{ at: '10.0.0.1' }, { at: '10.0.0.2', nodeName: undefined }], { internalTrafficPolicy: 'Local' }),
    );
    expect(rows[0]).toEqual(['10.0.0.1:8080', 'policy Local takes endpoints on node-a only', '']);
    expect(rows[1]?.[2]).toMatch(/names no node/);
  });

  test('hints for elsewhere', () => {
    const rows = leftOut(
      explained([
        { at: '10.0.0.1', zoneHints: ['zone-a'] },
        { at: '10.0.0.2', zoneHints: ['zone-b'] },
      ]),
    );
    expect(rows).toEqual([['10.0.0.2:8080', 'its hints give it to zone zone-b, and this node is in zone zone-a', '']]);
  });
});

describe('why the topology is what it is', () => {
  const why = (...words: Parameters<typeof explained>): string => explained(...words).topology.why;
  test.each([
    ['no hints', why([{ at: '10.0.0.1' }]), /carry no hints/],
    ['nobody ready', why([{ at: '10.0.0.1', ready: false }]), /no endpoint is ready/],
    ['all hinted', why([{ at: '10.0.0.1', zoneHints: ['zone-a'] }]), /every ready endpoint carries zone hints/],
    ['our node', why([{ at: '10.0.0.1', nodeHints: ['node-a'] }]), /names node-a/],
    ['one without', why([{ at: '10.0.0.1', zoneHints: ['zone-a'] }, { at: '10.0.0.2' }]), /1 of 2 .*10\.0\.0\.2:8080/],
    ['other zone', why([{ at: '10.0.0.1', zoneHints: ['zone-b'] }]), /no hint names this node's zone, zone-a/],
    ['no zone', why([{ at: '10.0.0.1', zoneHints: ['zone-b'] }], {}, { ...NODE, zone: undefined }), /needs the label/],
    ['other node', why([{ at: '10.0.0.1', nodeHints: ['node-b'] }]), /no hint names this node, node-a/],
  ])('%s', (_what, sentence, expected) => {
    expect(sentence).toMatch(expected);
  });
});

test('a Service that is not carried says why and the mend', () => {
  expect(explainCarried({ kind: 'ignored', reason: 'headless' }, undefined)).toMatch(/^no: it is headless/);
  expect(explainCarried({ kind: 'ignored', reason: 'service-proxy-name' }, 'cilium')).toMatch(
    /"cilium".*take the label away/,
  );
});

test('names in DNS', () => {
  const names = (service: Partial<ServiceRecord>) =>
    dnsNamesOf(resolveService('shop/web', { ...web, ...service }, [], NODE), 'cluster.local');
  expect(names({})).toEqual(['web.shop.svc.cluster.local (172.30.0.1)', '_http._tcp.web.shop.svc.cluster.local (SRV)']);
  expect(names({ type: 'ExternalName', externalName: 'db.example.com' })).toEqual([
    'web.shop.svc.cluster.local (CNAME db.example.com)',
  ]);
  expect(names({ headless: true, clusterIPs: [] })[0]).toBe('web.shop.svc.cluster.local (its endpoints)');
});

test('Services that may have been meant: the same name elsewhere first, then names like it', () => {
  const keys = ['shop/web', 'shop/webb', 'other/web', 'other/unlike'];
  const services = PersistentMap.from(keys.map((key) => [key, resolveService(key, web, [], NODE)] as const));
  expect(nearServices({ services } as Snapshot, 'shap/web')).toEqual(['other/web', 'shop/web']);
  expect(nearServices({ services } as Snapshot, 'shop/webbb')).toEqual(['shop/webb']);
  expect(nearServices({ services } as Snapshot, 'nothing/alike')).toEqual([]);
});
