// From Snapshot to Zone. Only Services that changed since the previous Zone are looked at again; the result is the same
// as beginning with nothing (a property test holds that).

import { PersistentMap } from '../../lib/persistent-map.ts';
import type { ObjectKey } from '../../model/records.ts';
import { parseName, prependLabel, ROOT, type DnsName } from '../wire/name.ts';
import { soaData, uint16, uint32, type Soa } from '../wire/record.ts';
import { CLASS_IN, RR } from '../wire/types.ts';
import type { NegativeSection } from '../reply.ts';
import { CompiledServices } from './compiled-services.ts';
import { summaryOf } from './service.ts';
import type { DnsService, DnsSource } from './source.ts';
import type { ServedZone, Zone, ZoneOptions } from './zone.ts';

const SOA_REFRESH = 7200;
const SOA_RETRY = 1800;
const SOA_EXPIRE = 86_400;
const SOA_MOST_TTL = 300;
const REVERSE_ORIGINS: readonly DnsName[] = ['in-addr.arpa', 'ip6.arpa']
  .map((text) => parseName(text))
  .filter((origin) => origin !== undefined);

/** The Zone before the first Snapshot: names that are not there answer SERVFAIL, not NXDOMAIN. */
export function emptyZone(options: ZoneOptions, serial: number): Zone {
  return {
    options,
    synced: false,
    revision: 0,
    ...servedZones(options, serial),
    services: PersistentMap.empty(),
    compiled: new CompiledServices(options),
    servicesIn: PersistentMap.empty(),
    reverse: PersistentMap.empty(),
    pods: PersistentMap.empty(),
    nameCount: 0,
    source: undefined,
  };
}

/**
 * The Zone of a Snapshot. `previous` (made with the same options) saves the work for what has not changed. `serial` is
 * the time in seconds since 1970; it is taken when something changed, else the previous one stays.
 */
export function compileZone(snapshot: DnsSource, options: ZoneOptions, serial: number, previous?: Zone): Zone {
  const base = previous ?? emptyZone(options, serial);
  const before = base.source;
  const services = new Map<string, DnsService | undefined>();
  const counts = new Map<string, number>();
  const reverse = new ReverseEdits(base.reverse);
  let { nameCount } = base;
  for (const change of snapshot.services.differences(before?.services ?? PersistentMap.empty())) {
    const namespace = (change.after ?? change.before)?.record.namespace ?? '';
    if (options.namespaces && !options.namespaces.has(namespace)) continue;
    const [old, now] = [summaryOf(change.before, options), summaryOf(change.after, options)];
    services.set(change.key, change.after);
    reverse.replace(change.key, old.addresses, now.addresses);
    nameCount += now.names - old.names;
    const delta = (change.after ? 1 : 0) - (change.before ? 1 : 0);
    if (delta !== 0) counts.set(namespace, (counts.get(namespace) ?? base.servicesIn.get(namespace) ?? 0) + delta);
  }
  const pods = compilePods(snapshot, options, base);
  const changed = !base.synced || services.size > 0 || pods !== base.pods || snapshot.namespaces !== before?.namespaces;
  return {
    options,
    synced: true,
    revision: snapshot.revision,
    ...(changed
      ? servedZones(options, serial)
      : { serial: base.serial, cluster: base.cluster, reverseZones: base.reverseZones }),
    // Where all are answered for, the source's own map is theirs.
    services: options.namespaces ? base.services.with(services) : snapshot.services,
    compiled: base.compiled,
    servicesIn: base.servicesIn.with(nonZero(counts)),
    reverse: reverse.result(),
    pods,
    nameCount,
    source: { services: snapshot.services, namespaces: snapshot.namespaces, pods: snapshot.pods },
  };
}

function compilePods(snapshot: DnsSource, options: ZoneOptions, base: Zone): Zone['pods'] {
  if (options.pods !== 'verified') return base.pods;
  // One entry for each Pod, because those on the host's network share its address.
  const edits = new Map<string, readonly string[]>();
  const at = (ip: string): readonly string[] => edits.get(ip) ?? base.pods.get(ip) ?? [];
  for (const { before, after } of snapshot.pods.differences(base.source?.pods ?? PersistentMap.empty())) {
    if (before) edits.set(before.ip, without(at(before.ip), before.namespace));
    if (after) edits.set(after.ip, [...at(after.ip), after.namespace].sort());
  }
  return base.pods.with([...edits].map(([ip, namespaces]) => [ip, namespaces.length > 0 ? namespaces : undefined]));
}

/** The list without the first of these. */
function without(list: readonly string[], value: string): readonly string[] {
  const at = list.indexOf(value);
  return at < 0 ? list : list.toSpliced(at, 1);
}

function nonZero(counts: ReadonlyMap<string, number>): (readonly [string, number | undefined])[] {
  return [...counts].map(([key, count]) => [key, count || undefined] as const);
}

/** Collects what Services come to addresses and leave them. Most addresses have one; what many share is put in order once. */
class ReverseEdits {
  readonly #base: Zone['reverse'];
  /** Whether the Service is one of the address, by address. */
  readonly #edits = new Map<string, Map<ObjectKey, boolean>>();

  constructor(base: Zone['reverse']) {
    this.#base = base;
  }

  replace(service: ObjectKey, before: ReadonlySet<string>, after: ReadonlySet<string>): void {
    for (const ip of before) if (!after.has(ip)) this.#editsOf(ip).set(service, false);
    for (const ip of after) if (!before.has(ip)) this.#editsOf(ip).set(service, true);
  }

  result(): Zone['reverse'] {
    return this.#base.with(
      [...this.#edits].map(([ip, edits]) => {
        const owners = this.#owners(ip, edits);
        return [ip, owners.length > 1 ? owners : owners[0]] as const;
      }),
    );
  }

  #editsOf(ip: string): Map<ObjectKey, boolean> {
    const known = this.#edits.get(ip);
    if (known) return known;
    const edits = new Map<ObjectKey, boolean>();
    this.#edits.set(ip, edits);
    return edits;
  }

  #owners(ip: string, edits: ReadonlyMap<ObjectKey, boolean>): readonly ObjectKey[] {
    const known = this.#base.get(ip) ?? [];
    const stay = (typeof known === 'string' ? [known] : known).filter((owner) => !edits.has(owner));
    const come = [...edits.keys()].filter((owner) => edits.get(owner));
    // Sorting is quick where all but a few are in order.
    return [...stay, ...come].sort();
  }
}

function servedZones(options: ZoneOptions, serial: number): Pick<Zone, 'cluster' | 'reverseZones' | 'serial'> {
  return {
    serial,
    cluster: servedZone(options.origin, false, options.ttl, serial),
    reverseZones: (options.reverse ?? REVERSE_ORIGINS).map((origin) => servedZone(origin, true, options.ttl, serial)),
  };
}

function servedZone(origin: DnsName, reverse: boolean, ttl: number, serial: number): ServedZone {
  const dns = prependLabel('dns', origin);
  const primary = dns && prependLabel('ns', dns);
  const mailbox = prependLabel('hostmaster', origin);
  if (!primary || !mailbox) throw new RangeError('the zone leaves no room for names in it');
  const soa: Soa = {
    primary,
    mailbox,
    serial,
    refresh: SOA_REFRESH,
    retry: SOA_RETRY,
    expire: SOA_EXPIRE,
    minimum: ttl,
  };
  const soaTtl = Math.min(ttl, SOA_MOST_TTL);
  return {
    origin,
    reverse,
    soa: { owner: undefined, type: RR.SOA, ttl: soaTtl, data: soaData(soa) },
    negative: negativeSection(soa, soaTtl),
  };
}

/** RFC 2308 section 3: the SOA record in the Authority section; every name in it ends in a pointer to the zone's. */
function negativeSection(soa: Soa, ttl: number): NegativeSection {
  const hole = '\0\0';
  const primary = `\x02ns\x03dns${hole}`;
  const mailbox = `\x0ahostmaster${hole}`;
  const numbers = soaData({ ...soa, primary: ROOT, mailbox: ROOT }).slice(2);
  const data = primary + mailbox + numbers;
  const head = hole + uint16(RR.SOA) + uint16(CLASS_IN) + uint32(ttl) + uint16(data.length);
  return {
    body: head + data,
    pointers: [0, head.length + primary.length - 2, head.length + primary.length + mailbox.length - 2],
  };
}
