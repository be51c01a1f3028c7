// Snapshots for the rules' tests, made of short descriptions by the real resolver. The world is that of the scenarios: node
// `node-a` at 192.168.0.2, pods in 10.0.0.0/8 and fd00:10::/64.

import { ipFamily, type IpFamily } from '../../src/lib/ip.ts';
import { PersistentMap } from '../../src/lib/persistent-map.ts';
import type { EndpointSliceRecord, Protocol, Records, ServiceRecord, TrafficPolicy } from '../../src/model/records.ts';
import { resolve, resolveService, type Resolution } from '../../src/model/resolve.ts';
import type { NodeIdentity, ResolvedService } from '../../src/model/snapshot.ts';
import { defaultRulesConfig, type RulesConfig } from '../../src/rules/config.ts';
import { EMPTY_RECORDS } from '../../src/source/store.ts';
import { cidr, ip, port } from '../support/values.ts';

export interface ServiceSketch {
  readonly name: string;
  readonly clusterIPs: readonly string[];
  readonly protocol?: Protocol;
  readonly port?: number;
  readonly nodePort?: number;
  readonly externalIPs?: readonly string[];
  readonly loadBalancerIPs?: readonly string[];
  readonly sourceRanges?: readonly string[];
  readonly affinitySeconds?: number;
  readonly internal?: TrafficPolicy;
  readonly external?: TrafficPolicy;
  readonly healthCheckNodePort?: number;
  /** `10.0.0.1:8080`, with `@node-b` behind it when it is not on node-a, and ` terminating` when it is, and serves. */
  readonly endpoints?: readonly string[];
}

export const NODE: NodeIdentity = {
  name: 'node-a',
  ips: [ip('192.168.0.2'), ip('fd00:192:168::2')],
  zone: 'zone-a',
  podCIDRs: [],
};

export const CONFIG: RulesConfig = {
  ...defaultRulesConfig,
  detectLocal: { kind: 'cidrs', cidrs: [cidr('10.0.0.0/8'), cidr('fd00:10::/64')] },
};

function serviceRecord(sketch: ServiceSketch): ServiceRecord {
  const external = sketch.loadBalancerIPs ? 'LoadBalancer' : sketch.nodePort ? 'NodePort' : 'ClusterIP';
  return {
    namespace: 'default',
    name: sketch.name,
    type: external,
    clusterIPs: sketch.clusterIPs.map(ip),
    headless: false,
    externalName: undefined,
    externalIPs: (sketch.externalIPs ?? []).map(ip),
    loadBalancerIPs: (sketch.loadBalancerIPs ?? []).map((each) => ({ ip: ip(each), vip: true })),
    sourceRanges: (sketch.sourceRanges ?? []).map(cidr),
    ports: [
      {
        name: 'p',
        protocol: sketch.protocol ?? 'TCP',
        port: port(sketch.port ?? 80),
        nodePort: sketch.nodePort === undefined ? undefined : port(sketch.nodePort),
      },
    ],
    affinityTimeoutSeconds: sketch.affinitySeconds,
    internalTrafficPolicy: sketch.internal ?? 'Cluster',
    externalTrafficPolicy: sketch.external ?? 'Cluster',
    healthCheckNodePort: sketch.healthCheckNodePort === undefined ? undefined : port(sketch.healthCheckNodePort),
    proxyName: undefined,
  };
}

function slicesOf(sketch: ServiceSketch): readonly EndpointSliceRecord[] {
  const slices = new Map<string, EndpointSliceRecord>();
  for (const text of sketch.endpoints ?? []) {
    const [whole = '', state] = text.split(' ');
    const [place = '', nodeName = NODE.name] = whole.split('@');
    const colon = place.lastIndexOf(':');
    const address = ip(place.slice(0, colon).replaceAll(/[[\]]/g, ''));
    const number = port(Number(place.slice(colon + 1)));
    const family: IpFamily = ipFamily(address);
    const name = `${sketch.name}-${family}-${number}`;
    const slice = slices.get(name) ?? {
      namespace: 'default',
      name,
      serviceName: sketch.name,
      family,
      ports: [{ name: 'p', protocol: sketch.protocol ?? 'TCP', port: number }],
      endpoints: [],
    };
    const endpoint = {
      ip: address,
      ready: state === undefined,
      serving: true,
      terminating: state === 'terminating',
      nodeName,
      zone: undefined,
      hostname: undefined,
      podName: undefined,
      zoneHints: undefined,
      nodeHints: undefined,
    };
    slices.set(name, { ...slice, endpoints: [...slice.endpoints, endpoint] });
  }
  return [...slices.values()];
}

function recordsOf(sketches: readonly ServiceSketch[]): Records {
  return {
    ...EMPTY_RECORDS,
    services: PersistentMap.from(sketches.map((each) => [`default/${each.name}`, serviceRecord(each)] as const)),
    endpointSlices: PersistentMap.from(sketches.map((each) => [`default/${each.name}`, slicesOf(each)] as const)),
  };
}

/** The cluster as a Snapshot, seen from node-a. With the Resolution before it, only what differs is new. */
export function clusterOf(
  sketches: readonly ServiceSketch[],
  previous?: Resolution,
  node: NodeIdentity = NODE,
): Resolution {
  const records = recordsOf(sketches);
  if (!previous) return resolve(records, node);
  const changed = { ...previous.records };
  const fresh = (sketch: ServiceSketch, key: string): boolean =>
    JSON.stringify(previous.records.services.get(key)) !== JSON.stringify(serviceRecord(sketch)) ||
    JSON.stringify(previous.records.endpointSlices.get(key)) !== JSON.stringify(slicesOf(sketch));
  const updates = sketches.filter((each) => fresh(each, `default/${each.name}`)).map((each) => `default/${each.name}`);
  const gone = [...previous.records.services.keys()].filter((key) => !records.services.has(key));
  const keys = [...updates, ...gone];
  return resolve(
    {
      ...changed,
      services: changed.services.with(keys.map((key) => [key, records.services.get(key)] as const)),
      endpointSlices: changed.endpointSlices.with(keys.map((key) => [key, records.endpointSlices.get(key)] as const)),
    },
    node,
    previous,
  );
}

/** One Service alone, for those who put Snapshots together themselves. */
export function resolvedOf(sketch: ServiceSketch): ResolvedService {
  return resolveService(`default/${sketch.name}`, serviceRecord(sketch), slicesOf(sketch), NODE);
}
