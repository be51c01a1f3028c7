// A zone that stands in a file: its names, and what each answers (RFC 1034 section 4.3.2, RFC 4592, RFC 6672).

import { lowerName, nameText, originAt, type DnsName } from '../wire/name.ts';
import type { OwnedRecord } from '../wire/message.ts';
import { dataShape, type ResourceRecord } from '../wire/record.ts';
import { RR } from '../wire/types.ts';

type RecordSets = ReadonlyMap<number, readonly OwnedRecord[]>;

export interface FileZone {
  readonly origin: DnsName;
  readonly soa: OwnedRecord;
  readonly serial: number;
  /** By name in lower case. */
  readonly names: ReadonlyMap<DnsName, RecordSets>;
  /** Names that have none of their own, but names below them. */
  readonly between: ReadonlySet<DnsName>;
  /** As the file has them, the SOA first. */
  readonly records: readonly OwnedRecord[];
}

export type BuiltZone =
  | { readonly kind: 'zone'; readonly zone: FileZone }
  | { readonly kind: 'mistake'; readonly what: string };

/** The zone of these records; names that are not in it are a mistake. `origin` in lower case. */
export function fileZone(origin: DnsName, records: readonly OwnedRecord[]): BuiltZone {
  const names = new Map<DnsName, Map<number, OwnedRecord[]>>();
  const between = new Set<DnsName>();
  for (const record of records) {
    const key = lowerName(record.owner);
    const at = originAt(key, origin);
    if (at < 0) return { kind: 'mistake', what: `${nameText(record.owner)} is not in the zone ${nameText(origin)}` };
    const sets = names.get(key) ?? new Map<number, OwnedRecord[]>();
    names.set(key, sets);
    const set = sets.get(record.type) ?? [];
    sets.set(record.type, set);
    if (!set.some(({ data }) => data === record.data)) set.push(record);
    for (let i = 0; i < at; i += 1 + key.charCodeAt(i)) if (i > 0) between.add(key.slice(i) as DnsName);
  }
  const soa = names.get(origin)?.get(RR.SOA)?.[0];
  if (!soa) return { kind: 'mistake', what: `there is no SOA record for ${nameText(origin)}` };
  for (const key of names.keys()) between.delete(key);
  const serial = Buffer.from(soa.data.slice(-20), 'latin1').readUInt32BE(0);
  const others = [...names.values()].flatMap((sets) => [...sets.values()].flat()).filter((record) => record !== soa);
  return { kind: 'zone', zone: { origin, soa, serial, names, between, records: [soa, ...others] } };
}

/** What a name answers. `alias` leads to a name that is to be looked up next. */
export type FileAnswer =
  | { readonly kind: 'found'; readonly answer: readonly ResourceRecord[] }
  | { readonly kind: 'alias'; readonly answer: readonly ResourceRecord[]; readonly target: DnsName }
  | { readonly kind: 'delegated'; readonly servers: readonly OwnedRecord[] }
  | { readonly kind: 'nodata' }
  | { readonly kind: 'missing' }
  /** A DNAME would make a name that is too long (RFC 6672 section 2.2). */
  | { readonly kind: 'too-long'; readonly answer: readonly ResourceRecord[] };

/** `name` in lower case, in the zone; `asked` is its spelling in the answer. Pure. */
export function lookupInFile(zone: FileZone, name: DnsName, asked: DnsName, type: number): FileAnswer {
  const depth = originAt(name, zone.origin);
  let closest = zone.origin;
  for (const at of labelStarts(name, depth).toReversed()) {
    const ancestor = name.slice(at) as DnsName;
    const sets = zone.names.get(ancestor);
    if (!sets && !zone.between.has(ancestor)) break;
    closest = ancestor;
    const dname = at > 0 ? sets?.get(RR.DNAME)?.[0] : undefined;
    if (dname) return substituted(dname, asked, at);
    const servers = ancestor === zone.origin ? undefined : sets?.get(RR.NS);
    if (servers && !(at === 0 && type === RR.DS)) return { kind: 'delegated', servers };
  }
  if (closest === name) {
    const sets = zone.names.get(name);
    return sets ? typed(sets, asked, type) : { kind: 'nodata' };
  }
  const wild = `\x01*${closest}` as DnsName;
  const sets = zone.names.get(wild);
  if (sets) return typed(sets, asked, type);
  return { kind: zone.between.has(wild) ? 'nodata' : 'missing' };
}

/** Where the labels begin, the origin's place last. */
function labelStarts(name: DnsName, depth: number): readonly number[] {
  const starts: number[] = [];
  for (let at = 0; at < depth; at += 1 + name.charCodeAt(at)) starts.push(at);
  return [...starts, depth];
}

function typed(sets: RecordSets, asked: DnsName, type: number): FileAnswer {
  const owned = (records: readonly OwnedRecord[]): readonly ResourceRecord[] =>
    records.map((record) => ({ ...record, owner: asked }));
  const [cname] = sets.get(RR.CNAME) ?? [];
  if (cname && type !== RR.CNAME) return { kind: 'alias', answer: owned([cname]), target: cname.data as DnsName };
  // ANY is no type of a record: a small question is not to bring everything there is (RFC 8482).
  const found = sets.get(type);
  return found && found.length > 0 ? { kind: 'found', answer: owned(found) } : { kind: 'nodata' };
}

/** RFC 6672 section 3.1: the DNAME itself, and the CNAME that it makes for this name. */
function substituted(dname: OwnedRecord, asked: DnsName, at: number): FileAnswer {
  const target = (asked.slice(0, at) + dname.data) as DnsName;
  if (target.length > 255) return { kind: 'too-long', answer: [dname] };
  const cname = { owner: asked, type: RR.CNAME, ttl: dname.ttl, data: target };
  return { kind: 'alias', answer: [dname, cname], target };
}

/** The zone's addresses of the names that records point at; for the Additional section. */
export function additionalOf(zone: FileZone, records: readonly ResourceRecord[]): readonly OwnedRecord[] {
  const targets = new Set<DnsName>();
  for (const { type, data } of records) {
    if (!POINTING.has(type)) continue;
    const at = type === RR.HTTPS || type === RR.SVCB ? 2 : (dataShape(type)?.before ?? 0);
    let end = at;
    while (data.charCodeAt(end) > 0) end += 1 + data.charCodeAt(end);
    targets.add(lowerName(data.slice(at, end + 1) as DnsName));
  }
  return [...targets].flatMap((target) => {
    const sets = zone.names.get(target);
    return [...(sets?.get(RR.A) ?? []), ...(sets?.get(RR.AAAA) ?? [])];
  });
}

const POINTING: ReadonlySet<number> = new Set([RR.NS, RR.MX, RR.SRV, RR.SVCB, RR.HTTPS]);
