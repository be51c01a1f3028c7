// One Service and its endpoints, compiled into the names that it answers. Pure; the rules are those of the DNS-based
// service discovery specification 1.1.0 section 2.3 to 2.5, and of the CoreDNS kubernetes plugin where that is silent.

import { ipFamily, parseIp, type Ip } from '../../lib/ip.ts';
import type { ServicePortRecord, SlicePort } from '../../model/records.ts';
import { parseName, prependLabel, type DnsName } from '../wire/name.ts';
import { addressData, uint16, uint32 } from '../wire/record.ts';
import { CLASS_IN, RR } from '../wire/types.ts';
import type { DnsEndpoint, DnsService, DnsServiceRecord } from './source.ts';
import type { NameAnswers, ReversePointer, ServiceAnswers, SrvAnswer, ZoneOptions } from './zone.ts';

const POINTER_TO_QUESTION = '\xc0\x0c';

const ABSENT: ServiceAnswers = { kind: 'absent' };

/** One address with one port that can be answered: what SRV weights are shared between. */
interface Candidate {
  readonly ip: Ip;
  /** The name that has this address: the Service's, or the endpoint's. */
  readonly owner: DnsName;
  /** The labels of the owner in front of the Service's name; empty for the Service itself. */
  readonly label: string;
  /** The topology zone of an endpoint, lower case. */
  readonly zone?: string | undefined;
  readonly portName: string;
  readonly protocol: string;
  /** Undefined for an address without any port: it has A and AAAA, and no SRV. */
  readonly port: number | undefined;
}

export function compileService(service: DnsService, options: ZoneOptions): ServiceAnswers {
  const { record } = service;
  const name = serviceName(record, options.origin);
  if (!name) return ABSENT;
  if (record.type === 'ExternalName') return compileAlias(record, name);
  const endpoints = options.noEndpoints ? [] : endpointCandidates(service, name, options.endpointPodNames ?? false);
  const empty = !options.noEndpoints && endpoints.length === 0;
  if (options.ignoreEmptyService && !record.headless && empty) return ABSENT;
  const own = record.headless ? endpoints : serviceCandidates(record, name);
  if (record.headless && own.length === 0) return ABSENT;
  const names = new NameTable(options.ttl);
  const endpointNames = new Map<string, NameAnswers>();
  for (const [owner, candidates] of groupBy(endpoints, (candidate) => candidate.owner))
    endpointNames.set(candidates[0]?.label ?? '', names.define(owner, candidates));
  const apex = record.headless ? names.answers(name, own) : names.define(name, own);
  const named = own.filter((candidate) => candidate.portName !== '');
  const ports = groupBy(named, (candidate) => `${candidate.portName}/${candidate.protocol}`.toLowerCase());
  return {
    kind: 'addresses',
    headless: record.headless,
    apex,
    endpoints: endpointNames,
    ports: new Map([...ports].map(([key, candidates]) => [key, names.answers(name, candidates)])),
    protocols: new Set(named.map((candidate) => candidate.protocol.toLowerCase())),
    reverse: options.multicluster ? [] : reversePointers(record, name, endpoints),
    ...(options.zonal && record.headless ? { zones: zonalNames(name, own, names) } : {}),
  };
}

/** The endpoints of each topology zone, under the Service's name. */
function zonalNames(
  name: DnsName,
  endpoints: readonly Candidate[],
  names: NameTable,
): ReadonlyMap<string, NameAnswers> {
  const zoned = groupBy(endpoints, ({ zone }) => zone ?? '');
  zoned.delete('');
  return new Map([...zoned].map(([zone, candidates]) => [zone, names.answers(name, candidates)]));
}

function serviceName(record: DnsServiceRecord, origin: DnsName): DnsName | undefined {
  const svc = prependLabel('svc', origin);
  const namespace = svc && prependLabel(record.namespace.toLowerCase(), svc);
  return namespace && prependLabel(record.name.toLowerCase(), namespace);
}

function compileAlias(record: DnsServiceRecord, name: DnsName): ServiceAnswers {
  const text = record.externalName ?? '';
  const target = parseIp(text) ? undefined : parseName(text);
  return target ? { kind: 'alias', name, target } : ABSENT;
}

function serviceCandidates(record: DnsServiceRecord, owner: DnsName): Candidate[] {
  return record.clusterIPs.flatMap((ip) => candidatesOf({ ip, owner, label: '' }, record.ports));
}

type Address = Pick<Candidate, 'ip' | 'owner' | 'label' | 'zone'>;

function candidatesOf(address: Address, ports: readonly (ServicePortRecord | SlicePort)[]): Candidate[] {
  if (ports.length === 0) return [{ ...address, portName: '', protocol: '', port: undefined }];
  return ports.map(({ name, protocol, port }) => ({ ...address, portName: name, protocol, port }));
}

/** Ready endpoints with the ports of their slices. `publishNotReadyAddresses` needs nothing: the slices say ready then. */
function endpointCandidates(service: DnsService, name: DnsName, podNames: boolean): Candidate[] {
  const candidates: Candidate[] = [];
  for (const { endpoint, ports, cluster } of service.members) {
    if (!endpoint.ready) continue;
    const label = endpointLabel(endpoint, podNames);
    const parent = cluster ? prependLabel(cluster, name) : name;
    const owner = parent && prependLabel(label, parent);
    if (!owner) continue;
    const below = cluster ? `${label}.${cluster}` : label;
    const zone = endpoint.zone?.toLowerCase();
    candidates.push(...candidatesOf({ ip: endpoint.ip, owner: flat(owner), label: below, zone }, ports));
  }
  return candidates;
}

/** Hostname, Pod name where those count, or the address with dashes; lower case. */
export function endpointLabel({ hostname, podName, ip }: DnsEndpoint, podNames: boolean): string {
  const named = hostname ?? (podNames ? podName : undefined);
  return named && named.length < 64 ? named.toLowerCase() : dashedIp(ip);
}

/** `10-0-0-1`, `fd00--1`; a 0 is added where the last character would be a dash (`fd00:244:1::`). */
export function dashedIp(ip: Ip): string {
  const dashed = ip.replace(/[.:]/g, '-');
  return dashed.endsWith('-') ? `${dashed}0` : dashed;
}

function reversePointers(
  record: DnsServiceRecord,
  name: DnsName,
  endpoints: readonly Candidate[],
): readonly ReversePointer[] {
  const pointers = new Map<string, ReversePointer>();
  if (!record.headless)
    for (const ip of record.clusterIPs) pointers.set(`${ip} ${name}`, { ip, target: name, cluster: true });
  for (const { ip, owner } of endpoints) pointers.set(`${ip} ${owner}`, { ip, target: owner, cluster: false });
  return [...pointers.values()];
}

/** The names of one Service, each made once, so that SRV records share their targets' addresses. */
class NameTable {
  readonly #ttl: number;
  readonly #targets = new Map<DnsName, NameAnswers>();

  constructor(ttl: number) {
    this.#ttl = ttl;
  }

  /** Makes a name that SRV records may point at, its own among them. */
  define(name: DnsName, candidates: readonly Candidate[]): NameAnswers {
    const srv: SrvAnswer[] = [];
    const answers: NameAnswers = { name, ...this.#addresses(candidates), srv };
    this.#targets.set(name, answers);
    srv.push(...this.#srv(candidates));
    return answers;
  }

  answers(name: DnsName, candidates: readonly Candidate[]): NameAnswers {
    return { name, ...this.#addresses(candidates), srv: this.#srv(candidates) };
  }

  #addresses(candidates: readonly Candidate[]): { a: string; aaaa: string } {
    const ips = [...new Set(candidates.map((candidate) => candidate.ip))];
    const of = (family: 4 | 6): string =>
      ips
        .filter((ip) => ipFamily(ip) === family)
        .map((ip) => addressRecord(ip, this.#ttl))
        .join('');
    return { a: of(4), aaaa: of(6) };
  }

  /** The weight is shared by all candidates, those without a port and duplicates included, and is at least 1. */
  #srv(candidates: readonly Candidate[]): readonly SrvAnswer[] {
    const weight = Math.max(1, Math.floor(100 / candidates.length));
    const seen = new Set<string>();
    const answers: SrvAnswer[] = [];
    for (const { owner, port } of candidates) {
      const target = this.#targets.get(owner);
      if (port === undefined || !target || seen.has(`${port} ${owner}`)) continue;
      seen.add(`${port} ${owner}`);
      answers.push({ port, weight, target });
    }
    return answers;
  }
}

/** A whole A or AAAA record whose owner is the question's name. */
export function addressRecord(ip: Ip, ttl: number): string {
  const data = addressData(ip);
  const type = ipFamily(ip) === 4 ? RR.A : RR.AAAA;
  return flat(POINTER_TO_QUESTION + uint16(type) + uint16(CLASS_IN) + uint32(ttl) + uint16(data.length) + data);
}

/** The same text in one piece: one that was put together keeps its pieces in memory, for each of many names. */
function flat<T extends string>(text: T): T {
  return Buffer.from(text, 'latin1').toString('latin1') as T;
}

function groupBy<K>(candidates: readonly Candidate[], keyOf: (candidate: Candidate) => K): Map<K, Candidate[]> {
  const groups = new Map<K, Candidate[]>();
  for (const candidate of candidates) {
    const key = keyOf(candidate);
    const group = groups.get(key);
    if (group) group.push(candidate);
    else groups.set(key, [candidate]);
  }
  return groups;
}
