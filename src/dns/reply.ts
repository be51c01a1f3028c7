// What an answer is before it is bytes.

import type { DnsName } from './wire/name.ts';
import type { ResourceRecord } from './wire/record.ts';

/** The zone that an answer comes from, in lower case, and its SOA in wire form for the Authority section. */
export interface ReplyZone {
  readonly origin: DnsName;
  readonly negative: NegativeSection;
}

/**
 * A SOA record that is wire-ready but for the pointers to the zone's name: they are written in where `pointers` says,
 * because the zone's name stands in the question, at a place that depends on its length.
 */
export interface NegativeSection {
  readonly body: string;
  readonly pointers: readonly number[];
}

export type Reply =
  /** Addresses of the question's name: `body` is whole records of `recordSize` bytes, pointers to the question in them. */
  | { readonly kind: 'addresses'; readonly body: string; readonly recordSize: number }
  /** NXDOMAIN, NODATA (rcode NOERROR), or SERVFAIL before the first Snapshot, with the zone's SOA. */
  | { readonly kind: 'negative'; readonly rcode: number; readonly zone: ReplyZone }
  | {
      readonly kind: 'records';
      readonly answer: readonly ResourceRecord[];
      readonly additional: readonly ResourceRecord[];
      /** Names in this zone are written with the question's spelling of the zone. */
      readonly origin: DnsName;
    }
  /** Sections as they are, with the header's AA, TC, RA and AD bits in `flags`. `ede` is an Extended DNS Error (RFC 8914). */
  | {
      readonly kind: 'message';
      readonly rcode: number;
      readonly flags: number;
      readonly answer: readonly ResourceRecord[];
      readonly authority: readonly ResourceRecord[];
      readonly additional: readonly ResourceRecord[];
      readonly ede?: { readonly code: number; readonly text: string };
    }
  /** A code alone, not authoritative. */
  | { readonly kind: 'code'; readonly rcode: number };
