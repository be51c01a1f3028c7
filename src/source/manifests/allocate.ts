// ClusterIPs and node ports for Services that name none, as an API server's allocators give them; but chosen by a
// hash of the name, so that the same manifests get the same addresses on every start and after every edit.

import { cidrFamily, cidrNth, cidrSize, type Cidr } from '../../lib/cidr.ts';
import { fnv1a32 } from '../../lib/hash.ts';
import { ipFamily, type Ip, type IpFamily } from '../../lib/ip.ts';
import { toPort, type Port } from '../../lib/port.ts';
import type { ServiceRecord } from '../../model/records.ts';
import type { FieldKey } from '../parse/reader.ts';
import { messageAt, type ManifestMessage, type ManifestOptions, type SourceDocument } from './document.ts';
import type { ServiceTemplate } from './service-template.ts';

export interface PlacedService {
  readonly key: string;
  readonly template: ServiceTemplate;
  readonly document: SourceDocument;
}

export interface AllocatedService extends PlacedService {
  readonly record: ServiceRecord;
  /** Primary first; empty for an ExternalName. */
  readonly families: readonly IpFamily[];
}

export interface Allocation {
  readonly services: readonly AllocatedService[];
  readonly errors: readonly ManifestMessage[];
}

/** Pure. Explicit claims come first, in the order given; what is chosen does not depend on the order. */
export function allocate(services: readonly PlacedService[], options: ManifestOptions): Allocation {
  const errors: ManifestMessage[] = [];
  const ips = new Map<Ip, PlacedService>();
  const ports = new Map<number, PlacedService>();
  const accepted: { service: PlacedService; families: readonly IpFamily[] }[] = [];
  for (const service of services) {
    const families = chooseFamilies(service.template, options);
    const problems = typeof families === 'string' ? [] : [...claim(service, ips, ports, options)];
    if (typeof families === 'string') problems.push({ keys: ['spec', 'ipFamilyPolicy'], message: families });
    for (const { keys, message } of problems) errors.push(complain(service, keys, message));
    if (typeof families !== 'string' && problems.length === 0) accepted.push({ service, families });
  }
  const chosenIps = chooseIps(accepted, ips, options);
  const chosenPorts = choosePorts(
    accepted.map(({ service }) => service),
    ports,
    options,
  );
  const result: AllocatedService[] = [];
  for (const { service, families } of accepted) {
    const record = complete(service, families, chosenIps, chosenPorts);
    if (typeof record === 'string') errors.push(complain(service, ['spec'], record));
    else result.push({ ...service, record, families });
  }
  return { services: result, errors };
}

function complain(service: PlacedService, keys: readonly FieldKey[], message: string): ManifestMessage {
  return messageAt(service.document, keys, `Service ${service.key}: ${message}`);
}

/** The families of a Service, primary first, or what is wrong with those that it asks for. */
function chooseFamilies(template: ServiceTemplate, options: ManifestOptions): readonly IpFamily[] | string {
  const { record, families, familyPolicy } = template;
  if (record.type === 'ExternalName') return [];
  const ranges = options.clusterIPRanges.map(cidrFamily);
  const primary = families[0] ?? ranges[0] ?? 4;
  const chosen: IpFamily[] = families.length > 0 ? [...families] : [primary];
  const other: IpFamily = primary === 4 ? 6 : 4;
  const dual = familyPolicy === 'PreferDualStack' || familyPolicy === 'RequireDualStack';
  if (dual && !chosen.includes(other) && ranges.includes(other)) chosen.push(other);
  if (familyPolicy === 'RequireDualStack' && chosen.length < 2) {
    return (
      'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services: ' +
      `give a range of IPv${other} as well with --service-cluster-ip-range`
    );
  }
  return familyPolicy === 'SingleStack' ? chosen.slice(0, 1) : chosen;
}

interface Problem {
  readonly keys: readonly FieldKey[];
  readonly message: string;
}

/** Takes what a Service names for itself. On a conflict it takes nothing, and tells whose it is. */
function claim(
  service: PlacedService,
  ips: Map<Ip, PlacedService>,
  ports: Map<number, PlacedService>,
  options: ManifestOptions,
): readonly Problem[] {
  const problems: Problem[] = [];
  const { record } = service.template;
  for (const [index, ip] of record.clusterIPs.entries()) {
    const owner = ips.get(ip);
    if (!owner) continue;
    problems.push({
      keys: ['spec', 'clusterIPs', index],
      message: `spec.clusterIP: Invalid value: "${ip}": provided IP is already allocated: ${claimedBy(owner)}`,
    });
  }
  for (const { keys, path, port } of explicitPorts(record)) {
    const { from, to } = options.nodePortRange;
    const owner = ports.get(port);
    if (port < from || port > to) {
      problems.push({
        keys,
        message:
          `${path}: Invalid value: ${port}: provided port is not in the valid range. ` +
          `The range of valid ports is ${from}-${to} (--service-node-port-range)`,
      });
    } else if (owner) {
      problems.push({
        keys,
        message: `${path}: Invalid value: ${port}: provided port is already allocated: ${claimedBy(owner)}`,
      });
    }
  }
  problems.push(...ownDuplicates(record));
  if (problems.length > 0) return problems;
  for (const ip of record.clusterIPs) ips.set(ip, service);
  for (const { port } of explicitPorts(record)) ports.set(port, service);
  return [];
}

function claimedBy(owner: PlacedService): string {
  const { file, line } = owner.document;
  return `Service ${owner.key} (${file}:${line}) claims it; change one of them, or name none and have one chosen`;
}

function explicitPorts(record: ServiceRecord): readonly { keys: readonly FieldKey[]; path: string; port: Port }[] {
  const ports = record.ports.flatMap(({ nodePort }, index) =>
    nodePort === undefined
      ? []
      : [{ keys: ['spec', 'ports', index, 'nodePort'], path: `spec.ports[${index}].nodePort`, port: nodePort }],
  );
  if (record.healthCheckNodePort === undefined) return ports;
  const health = { keys: ['spec', 'healthCheckNodePort'], path: 'spec.healthCheckNodePort' };
  return [...ports, { ...health, port: record.healthCheckNodePort }];
}

/** One number may serve several protocols of a Service, but each of them once; the health check is TCP. */
function ownDuplicates(record: ServiceRecord): readonly Problem[] {
  const seen = new Set<string>();
  if (record.healthCheckNodePort !== undefined) seen.add(`${record.healthCheckNodePort}/TCP`);
  const problems: Problem[] = [];
  for (const [index, { nodePort, protocol }] of record.ports.entries()) {
    if (nodePort === undefined) continue;
    const number = `${nodePort}/${protocol}`;
    if (seen.has(number)) {
      const message = `spec.ports[${index}].nodePort: Duplicate value: ${nodePort}: this Service uses it already`;
      problems.push({ keys: ['spec', 'ports', index, 'nodePort'], message });
    }
    seen.add(number);
  }
  return problems;
}

/** Addresses for the families that a Service has and names no address of, by `key IPvN`. */
function chooseIps(
  services: readonly { service: PlacedService; families: readonly IpFamily[] }[],
  taken: ReadonlyMap<Ip, unknown>,
  options: ManifestOptions,
): ReadonlyMap<string, Ip> {
  const chosen = new Map<string, Ip>();
  for (const range of options.clusterIPRanges) {
    const family = cidrFamily(range);
    const wanting = services
      .filter(({ service, families }) => families.includes(family) && lacksIp(service.template.record, family))
      .map(({ service }) => requestOf(service.key, family));
    const { first, count } = usable(range);
    const used = new Set([...taken.keys()].filter((ip) => ipFamily(ip) === family));
    for (const [key, index] of choose(wanting, count, (index) => used.has(cidrNth(range, first + index)))) {
      chosen.set(key, cidrNth(range, first + index));
    }
  }
  return chosen;
}

function requestOf(key: string, family: IpFamily): string {
  return `${key} IPv${family}`;
}

function lacksIp(record: ServiceRecord, family: IpFamily): boolean {
  return !record.headless && !record.clusterIPs.some((ip) => ipFamily(ip) === family);
}

/** A range without its network address, and without the broadcast address of IPv4. */
function usable(range: Cidr): { readonly first: bigint; readonly count: bigint } {
  const size = cidrSize(range);
  if (size <= 2n) return { first: 0n, count: size };
  return { first: 1n, count: size - (cidrFamily(range) === 4 ? 2n : 1n) };
}

/** Node ports that are still wanted, by request: one number for each port number of a Service, and the health check. */
function choosePorts(
  services: readonly PlacedService[],
  taken: ReadonlyMap<number, unknown>,
  options: ManifestOptions,
): ReadonlyMap<string, Port> {
  const { from, to } = options.nodePortRange;
  const wanting = services.flatMap(({ key, template: { record, wantsNodePorts } }) => {
    const requests = new Set<string>();
    if (wantsNodePorts) {
      for (const { port, nodePort } of record.ports) {
        if (nodePort === undefined && ownNodePort(record, port) === undefined) requests.add(portRequest(key, port));
      }
    }
    if (wantsHealthCheck(record)) requests.add(healthRequest(key));
    return [...requests];
  });
  const chosen = new Map<string, Port>();
  for (const [key, index] of choose(wanting, BigInt(to - from + 1), (index) => taken.has(from + Number(index)))) {
    const port = toPort(from + Number(index));
    if (port !== undefined) chosen.set(key, port);
  }
  return chosen;
}

function wantsHealthCheck(record: ServiceRecord): boolean {
  const external = record.type === 'LoadBalancer' && record.externalTrafficPolicy === 'Local';
  return external && record.healthCheckNodePort === undefined;
}

function portRequest(key: string, port: Port): string {
  return `${key}:${port}`;
}

function healthRequest(key: string): string {
  return `${key}:healthCheckNodePort`;
}

/** The node port that another protocol of the same port number names; the API server gives both the same. */
function ownNodePort(record: ServiceRecord, port: Port): Port | undefined {
  return record.ports.find((other) => other.port === port && other.nodePort !== undefined)?.nodePort;
}

/**
 * Gives each key an index below `count`: that of its hash, or the next free one. All keys try their first choice
 * before any tries its second, and those that want the same go in order of key: so the outcome depends on the set of
 * keys alone, and a new key moves only one whose very choice it takes. Keys left out found no free index.
 */
function choose(
  keys: readonly string[],
  count: bigint,
  reserved: (index: bigint) => boolean,
): ReadonlyMap<string, bigint> {
  const chosen = new Map<string, bigint>();
  const used = new Set<bigint>();
  let waiting = [...new Set(keys)].sort();
  for (let attempt = 0n; waiting.length > 0 && attempt < count && BigInt(used.size) < count; attempt++) {
    waiting = waiting.filter((key) => {
      const index = (BigInt(fnv1a32(key)) + attempt) % count;
      if (used.has(index) || reserved(index)) return true;
      used.add(index);
      chosen.set(key, index);
      return false;
    });
  }
  return chosen;
}

/** The record with what was chosen, or what could not be. */
function complete(
  service: PlacedService,
  families: readonly IpFamily[],
  ips: ReadonlyMap<string, Ip>,
  ports: ReadonlyMap<string, Port>,
): ServiceRecord | string {
  const { key, template } = service;
  const { record } = template;
  const clusterIPs: Ip[] = [];
  for (const family of record.headless ? [] : families) {
    const ip = record.clusterIPs.find((own) => ipFamily(own) === family) ?? ips.get(requestOf(key, family));
    if (ip === undefined) {
      return `no IPv${family} address is left, or there is no range for it: give a larger one with --service-cluster-ip-range, or name a clusterIP`;
    }
    clusterIPs.push(ip);
  }
  const withPorts = record.ports.map((port) => ({
    ...port,
    nodePort: template.wantsNodePorts
      ? (port.nodePort ?? ownNodePort(record, port.port) ?? ports.get(portRequest(key, port.port)))
      : port.nodePort,
  }));
  const healthCheckNodePort = wantsHealthCheck(record) ? ports.get(healthRequest(key)) : record.healthCheckNodePort;
  const portMissing =
    (template.wantsNodePorts && withPorts.some((port) => port.nodePort === undefined)) ||
    (wantsHealthCheck(record) && healthCheckNodePort === undefined);
  if (portMissing) return 'no node port is left: give a larger range with --service-node-port-range';
  return { ...record, clusterIPs, ports: withPorts, healthCheckNodePort };
}
