// The compiled zone: a value made from a Snapshot. What a name answers is compiled when it is first asked for, and from then on looked up and copied.

import type { Ip } from '../../lib/ip.ts';
import type { PersistentMap } from '../../lib/persistent-map.ts';
import type { ObjectKey } from '../../model/records.ts';
import type { ReplyZone } from '../reply.ts';
import type { DnsName } from '../wire/name.ts';
import type { CompiledServices } from './compiled-services.ts';
import type { DnsService, DnsSource } from './source.ts';
import type { ResourceRecord } from '../wire/record.ts';

/** Whether `1-2-3-4.<namespace>.pod` answers: never, for any address, or for addresses of Pods that exist. */
export type PodMode = 'disabled' | 'insecure' | 'verified';

export interface ZoneOptions {
  /** The cluster's domain, lower case. */
  readonly origin: DnsName;
  /** Seconds, 0 to 3600, for all records but `dns-version`. */
  readonly ttl: number;
  readonly pods: PodMode;
  /** This server's own addresses: they find the Service behind the zone's NS record, and are `ns.dns.<zone>`. */
  readonly selfIps: readonly Ip[];
  /** The reverse zones that are answered, lower case; `in-addr.arpa` and `ip6.arpa` by default. */
  readonly reverse?: readonly DnsName[];
  /** Only these namespaces, and nothing of the others; undefined for all. */
  readonly namespaces?: ReadonlySet<string>;
  /** Endpoints are not answered for: headless Services do not exist then. */
  readonly noEndpoints?: boolean;
  /** The name of an endpoint is that of its Pod, where it has no hostname. */
  readonly endpointPodNames?: boolean;
  /** Only namespaces that the source lists: it is told to list no others. */
  readonly listedNamespaces?: boolean;
  /** Endpoints of a headless Service in one topology zone have names of their own. */
  readonly zonal?: boolean;
  /** Answers for Services of other clusters, with the cluster's id in names of endpoints (KEP-1645). */
  readonly multicluster?: boolean;
  /** A Service with a ClusterIP and without a ready endpoint does not exist. */
  readonly ignoreEmptyService?: boolean;
}

/** What one name below a Service answers. */
export interface NameAnswers {
  readonly name: DnsName;
  /** A records, wire-ready, owner pointing to the question; empty for none. */
  readonly a: string;
  /** The same for AAAA. */
  readonly aaaa: string;
  readonly srv: readonly SrvAnswer[];
}

export interface SrvAnswer {
  readonly port: number;
  readonly weight: number;
  readonly target: NameAnswers;
}

export interface ReversePointer {
  readonly ip: Ip;
  readonly target: DnsName;
  /** A Service's own address: it hides the endpoints with that address. */
  readonly cluster: boolean;
}

/** Everything that one Service answers. */
export type ServiceAnswers =
  | {
      readonly kind: 'addresses';
      readonly headless: boolean;
      readonly apex: NameAnswers;
      /** By endpoint label, lower case: hostname, else the address with dashes; `label.cluster` for another cluster's. */
      readonly endpoints: ReadonlyMap<string, NameAnswers>;
      /** By `port/protocol`, lower case, without underscores. */
      readonly ports: ReadonlyMap<string, NameAnswers>;
      /** Protocols with a named port, lower case: `_tcp.<service>` exists when one of its ports does. */
      readonly protocols: ReadonlySet<string>;
      readonly reverse: readonly ReversePointer[];
      /** By topology zone, lower case; only where zonal names are answered, of a headless Service. */
      readonly zones?: ReadonlyMap<string, NameAnswers> | undefined;
    }
  | { readonly kind: 'alias'; readonly name: DnsName; readonly target: DnsName }
  /** The Service exists and answers nothing: NXDOMAIN (headless and nothing ready, an ExternalName that is no name). */
  | { readonly kind: 'absent' };

export interface ReverseOwner {
  readonly service: ObjectKey;
  readonly target: DnsName;
  readonly cluster: boolean;
}

/** One of the zones that are answered: the cluster's, and the two for addresses. */
export interface ServedZone extends ReplyZone {
  readonly soa: ResourceRecord;
  readonly reverse: boolean;
}

export interface Zone {
  readonly options: ZoneOptions;
  /** False before the first Snapshot: what is not there may only not be known yet. */
  readonly synced: boolean;
  readonly revision: number;
  /** Seconds since 1970 of the last change: the serial of the SOA records. */
  readonly serial: number;
  readonly cluster: ServedZone;
  readonly reverseZones: readonly ServedZone[];
  /** Those that are answered for; `answersOf` says what. */
  readonly services: PersistentMap<DnsService>;
  readonly compiled: CompiledServices;
  /** How many Services each namespace has; a namespace with one exists, whatever the namespace list says. */
  readonly servicesIn: PersistentMap<number>;
  /** The Services that an address has names of, by address, in order of key; `ownersOf` says which names. */
  readonly reverse: PersistentMap<ObjectKey | readonly ObjectKey[]>;
  /** The namespaces of the Pods with an address, sorted, one for each Pod, by address; filled for mode `verified` only. */
  readonly pods: PersistentMap<readonly string[]>;
  /** Names that Services answer for. */
  readonly nameCount: number;
  /** What it was compiled from, for the next difference; undefined before the first Snapshot. */
  readonly source: Pick<DnsSource, 'services' | 'namespaces' | 'pods'> | undefined;
}

/** What a Service answers; undefined for one that is not there. */
export function answersOf(zone: Zone, key: ObjectKey): ServiceAnswers | undefined {
  const service = zone.services.get(key);
  return service && zone.compiled.of(service);
}

/** The names of an address, in order of Service and name. */
export function ownersOf(zone: Zone, ip: Ip): readonly ReverseOwner[] {
  const keys = zone.reverse.get(ip) ?? [];
  return (typeof keys === 'string' ? [keys] : keys).flatMap((service) => {
    const answers = answersOf(zone, service);
    if (answers?.kind !== 'addresses') return [];
    const own = answers.reverse.filter((pointer) => pointer.ip === ip);
    return own
      .map(({ target, cluster }): ReverseOwner => ({ service, target, cluster }))
      .toSorted((a, b) => (a.target < b.target ? -1 : 1));
  });
}
