// Answers that are kept for as long as their TTL says: bounded, wire-ready, with the TTL counted down.

import { encodeReply } from './encode.ts';
import { replyOf } from './handler.ts';
import type { Message } from './wire/message.ts';
import { readName } from './wire/name.ts';
import type { Query } from './wire/query.ts';
import { FLAG, HEADER_SIZE, MAX_MESSAGE_SIZE, RCODE, RR } from './wire/types.ts';

export type CacheKind = 'success' | 'denial';

export interface CacheLimits {
  readonly capacity: number;
  /** Seconds. */
  readonly maxTtl: number;
  readonly minTtl: number;
}

export interface CacheRules {
  readonly success: CacheLimits;
  readonly denial: CacheLimits;
  /** Seconds that SERVFAIL and NOTIMP are kept; 0 is not at all. */
  readonly servfail: number;
  /** TTLs are not counted down. */
  readonly keepTtl: boolean;
}

export interface CacheEntry {
  readonly kind: CacheKind;
  /** Without id and EDNS; the question is the first asker's. */
  readonly packet: Buffer;
  /** Where the TTLs stand. */
  readonly ttlAt: readonly number[];
  /** Seconds that it was stored for, and since when, in monotonic milliseconds. */
  readonly ttl: number;
  readonly storedAt: number;
  readonly rcode: number;
  /** Popularity and renewals; what changes while it is kept. */
  readonly use: CacheUse;
}

export interface CacheUse {
  hits: number;
  /** Monotonic milliseconds of the last hit. */
  lastHit: number;
  /** Somebody asks for it anew. */
  renewing: boolean;
  /** Until when it is not asked for anew, after a failure. */
  waitUntil: number;
}

const NO_TTL_SECONDS = 5;
/** Whose answers may be kept: others say nothing of the name. */
const FAILURES: ReadonlySet<number> = new Set([RCODE.SERVFAIL, RCODE.NOTIMP]);

/** Whose limits hold for the TTLs of a message, kept or not. */
export function limitsOf(message: Message): CacheKind {
  const hasSoa = message.authority.some((record) => record.type === RR.SOA);
  return message.rcode === RCODE.NXDOMAIN || (hasSoa && message.answer.length === 0) ? 'denial' : 'success';
}

/** What kind of answer a message is to a cache; undefined when it is not to be kept. */
export function cacheKindOf(query: Query, message: Message): CacheKind | undefined {
  if (message.truncated || query.type === RR.AXFR || query.type === RR.IXFR) return undefined;
  const hasSoa = message.authority.some((record) => record.type === RR.SOA);
  if (message.rcode === RCODE.NXDOMAIN) return hasSoa ? 'denial' : undefined;
  if (FAILURES.has(message.rcode)) return 'denial';
  if (message.rcode !== RCODE.NOERROR) return undefined;
  const told = message.answer.some((record) => record.type !== RR.CNAME || query.type === RR.CNAME);
  if (told) return 'success';
  return hasSoa ? 'denial' : undefined;
}

/** Seconds for which a message is kept: the least TTL in it, within the limits. Negative answers by their SOA (RFC 2308). */
export function cacheTtl(message: Message, kind: CacheKind, rules: CacheRules): number {
  if (FAILURES.has(message.rcode)) return rules.servfail;
  const records = [...message.answer, ...message.authority, ...message.additional];
  const ttls = records.map((record) => (kind === 'denial' && record.type === RR.SOA ? soaTtl(record) : record.ttl));
  const least = ttls.length > 0 ? Math.min(...ttls) : NO_TTL_SECONDS;
  const limits = rules[kind];
  return Math.min(Math.max(least, limits.minTtl), limits.maxTtl);
}

function soaTtl(record: { readonly ttl: number; readonly data: string }): number {
  return Math.min(record.ttl, Buffer.from(record.data.slice(-4), 'latin1').readUInt32BE(0));
}

export function cacheKey(query: Query): string {
  const bits = (query.edns?.dnssecOk ? 1 : 0) | (query.flags & FLAG.CD ? 2 : 0);
  return `${String.fromCharCode(query.type, bits)}${query.key}`;
}

/** The message as bytes that are copied for each asker. */
export function cacheEntry(
  query: Query,
  message: Message,
  kind: CacheKind,
  rules: CacheRules,
  now: number,
): CacheEntry {
  const bare = { ...query, edns: undefined };
  const packet = encodeReply(bare, replyOf(message), MAX_MESSAGE_SIZE, () => 0);
  return {
    kind,
    packet,
    ttlAt: ttlOffsets(packet),
    ttl: cacheTtl(message, kind, rules),
    storedAt: now,
    rcode: message.rcode,
    use: { hits: 0, lastHit: now, renewing: false, waitUntil: 0 },
  };
}

function ttlOffsets(packet: Buffer): readonly number[] {
  const offsets: number[] = [];
  const question = readName(packet, HEADER_SIZE, packet.length);
  let at = (question?.end ?? packet.length) + 4;
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10);
  for (let i = 0; i < records; i++) {
    const owner = readName(packet, at, packet.length);
    if (!owner) break;
    offsets.push(owner.end + 4);
    at = owner.end + 10 + packet.readUInt16BE(owner.end + 8);
  }
  return offsets;
}

/** Whether it is kept on although its time is over. */
export function isStale(entry: CacheEntry, now: number): boolean {
  return now - entry.storedAt >= entry.ttl * 1000;
}

/** Whole seconds that are left, never negative. */
export function secondsLeft(entry: CacheEntry, now: number): number {
  return Math.max(0, entry.ttl - Math.floor((now - entry.storedAt) / 1000));
}

/** When the TTLs are one second less, in monotonic milliseconds; the entry's own end at the latest. */
export function nextTtlAt(entry: CacheEntry, now: number): number {
  const age = now - entry.storedAt;
  return entry.storedAt + Math.min(entry.ttl * 1000, (Math.floor(age / 1000) + 1) * 1000);
}

/** The entry as a message for one asker. */
export function entryPacket(entry: CacheEntry, query: Query, ttl: number, authoritative: boolean): Buffer {
  const packet = Buffer.from(entry.packet);
  for (const at of entry.ttlAt) packet.writeUInt32BE(ttl, at);
  let flags = packet.readUInt16BE(2) & ~(FLAG.RD | FLAG.CD);
  flags |= query.flags & (FLAG.RD | FLAG.CD);
  if (authoritative) flags |= FLAG.AA;
  // AD is for those who ask for it (RFC 6840 section 5.7).
  if (!query.edns?.dnssecOk && !(query.flags & FLAG.AD)) flags &= ~FLAG.AD;
  packet.writeUInt16BE(flags, 2);
  packet.writeUInt16BE(query.id, 0);
  packet.write(query.name, HEADER_SIZE, 'latin1');
  return packet;
}

/** A bounded map of entries; the oldest go first. */
export class CacheStore {
  readonly #capacity: number;
  readonly #entries = new Map<string, CacheEntry>();
  evictions = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** One that has not run out for longer than `graceMs`. */
  get(key: string, now: number, graceMs = 0): CacheEntry | undefined {
    const entry = this.#entries.get(key);
    if (!entry || now - entry.storedAt < entry.ttl * 1000 + graceMs) return entry;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, entry: CacheEntry): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size <= this.#capacity) return;
    const [oldest] = this.#entries.keys();
    if (oldest === undefined) return;
    this.#entries.delete(oldest);
    this.evictions++;
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
