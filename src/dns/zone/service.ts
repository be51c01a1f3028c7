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

/** What is answered for a Service; each part of it is made when it is first asked for. */
export function compileService(service: DnsService, options: ZoneOptions): ServiceAnswers {
  const { record } = service;
  const name = serviceName(record, options.origin);
  if (!name) return ABSENT;
  if (record.type === 'ExternalName') return compileAlias(record, name);
  if (isAbsent(service, name, options)) return ABSENT;
  return new AddressAnswers(service, name, options);
}

/** A Service that is there and has no name. */
function isAbsent(service: DnsService, name: DnsName, options: ZoneOptions): boolean {
  const needsEndpoints = service.record.headless || (options.ignoreEmptyService && !options.noEndpoints);
  return needsEndpoints === true && readyEndpoints(service, name, options).next().done === true;
}

/** What a zone knows of a Service before anybody asks for it. */
export interface ServiceSummary {
  /** Its own addresses and those of its endpoints, as far as they have names. */
  readonly addresses: ReadonlySet<Ip>;
  /** Names that it answers for. */
  readonly names: number;
}

const NOTHING: ServiceSummary = { addresses: new Set(), names: 0 };

export function summaryOf(service: DnsService | undefined, options: ZoneOptions): ServiceSummary {
  const name = service && serviceName(service.record, options.origin);
  if (!name) return NOTHING;
  const { record } = service;
  if (record.type === 'ExternalName') return { ...NOTHING, names: compileAlias(record, name).kind === 'alias' ? 1 : 0 };
  const addresses = new Set<Ip>();
  const labels = new Set<string>();
  const ports = new Set<string>();
  for (const endpoint of readyEndpoints(service, name, options)) {
    addresses.add(endpoint.ip);
    labels.add(endpoint.label);
    if (record.headless) for (const port of endpoint.ports) if (port.name !== '') ports.add(portKey(port));
  }
  if (isAbsent(service, name, options)) return NOTHING;
  if (!record.headless) {
    for (const ip of record.clusterIPs) addresses.add(ip);
    if (record.clusterIPs.length > 0) for (const port of record.ports) if (port.name !== '') ports.add(portKey(port));
  }
  return { addresses: options.multicluster ? NOTHING.addresses : addresses, names: 1 + labels.size + ports.size };
}

function portKey({ name, protocol }: Pick<SlicePort, 'name' | 'protocol'>): string {
  return `${name}/${protocol}`.toLowerCase();
}

type AddressService = Extract<ServiceAnswers, { kind: 'addresses' }>;

/**
 * The answers of a Service with addresses. Of ten names that are asked for nine are Services with a ClusterIP, whose endpoints nobody asks
 * for by name: those of a large cluster, compiled, would be most of the memory.
 */
class AddressAnswers implements AddressService {
  readonly kind = 'addresses';
  readonly headless: boolean;
  readonly #service: DnsService;
  readonly #name: DnsName;
  readonly #options: ZoneOptions;
  readonly #names: NameTable;
  #apex: NameAnswers | undefined;
  #endpoints: AddressService['endpoints'] | undefined;
  #ports: AddressService['ports'] | undefined;
  #protocols: AddressService['protocols'] | undefined;
  #reverse: AddressService['reverse'] | undefined;
  #zones: AddressService['endpoints'] | undefined;

  constructor(service: DnsService, name: DnsName, options: ZoneOptions) {
    this.headless = service.record.headless;
    this.#service = service;
    this.#name = name;
    this.#options = options;
    this.#names = new NameTable(options.ttl);
  }

  get apex(): NameAnswers {
    if (this.#apex) return this.#apex;
    const own = this.#own();
    return (this.#apex = this.headless ? this.#names.answers(this.#name, own) : this.#names.define(this.#name, own));
  }

  get endpoints(): AddressService['endpoints'] {
    if (this.#endpoints) return this.#endpoints;
    const endpoints = new Map<string, NameAnswers>();
    for (const [owner, candidates] of groupBy(this.#endpointCandidates(), (candidate) => candidate.owner))
      endpoints.set(candidates[0]?.label ?? '', this.#names.define(owner, candidates));
    return (this.#endpoints = endpoints);
  }

  get ports(): AddressService['ports'] {
    return (this.#ports ??= this.#answersBy(({ portName, protocol }) =>
      portName === '' ? '' : portKey({ name: portName, protocol: protocol as SlicePort['protocol'] }),
    ));
  }

  get protocols(): AddressService['protocols'] {
    return (this.#protocols ??= new Set([...this.ports.keys()].map((key) => key.slice(key.indexOf('/') + 1))));
  }

  get reverse(): AddressService['reverse'] {
    if (this.#options.multicluster) return [];
    return (this.#reverse ??= reversePointers(this.#service.record, this.#name, this.#endpointCandidates()));
  }

  get zones(): AddressService['zones'] {
    if (!this.#options.zonal || !this.headless) return undefined;
    return (this.#zones ??= this.#answersBy(({ zone }) => zone ?? ''));
  }

  /** Under the Service's name, the candidates of each key but the empty one. */
  #answersBy(keyOf: (candidate: Candidate) => string): ReadonlyMap<string, NameAnswers> {
    const groups = groupBy(this.#own(), keyOf);
    groups.delete('');
    // SRV records point at the Service's own name.
    if (!this.headless) void this.apex;
    return new Map([...groups].map(([key, candidates]) => [key, this.#names.answers(this.#name, candidates)]));
  }

  /** What the Service's own name stands for. */
  #own(): readonly Candidate[] {
    if (!this.headless) return serviceCandidates(this.#service.record, this.#name);
    // SRV records point at their names.
    void this.endpoints;
    return this.#endpointCandidates();
  }

  #endpointCandidates(): readonly Candidate[] {
    return endpointCandidates(this.#service, this.#name, this.#options);
  }
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

interface NamedEndpoint extends Address {
  readonly ports: readonly SlicePort[];
}

/** Ready endpoints that have a name. `publishNotReadyAddresses` needs nothing: the slices say ready then. */
function* readyEndpoints(service: DnsService, name: DnsName, options: ZoneOptions): Generator<NamedEndpoint> {
  if (options.noEndpoints) return;
  for (const { endpoints, ports, cluster } of service.slices) {
    const parent = cluster ? prependLabel(cluster, name) : name;
    if (!parent) continue;
    for (const endpoint of endpoints) {
      if (!endpoint.ready) continue;
      const label = endpointLabel(endpoint, options.endpointPodNames ?? false);
      const owner = prependLabel(label, parent);
      if (!owner) continue;
      const below = cluster ? `${label}.${cluster}` : label;
      yield { ip: endpoint.ip, owner, label: below, zone: endpoint.zone?.toLowerCase(), ports };
    }
  }
}

function endpointCandidates(service: DnsService, name: DnsName, options: ZoneOptions): readonly Candidate[] {
  const candidates: Candidate[] = [];
  for (const { ip, owner, label, zone, ports } of readyEndpoints(service, name, options))
    candidates.push(...candidatesOf({ ip, owner: flat(owner), label, zone }, ports));
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
