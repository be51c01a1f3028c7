// Numbers of the protocol (RFC 1035 section 3.2, RFC 6891, RFC 9460), only those that the server has to tell apart.

export const RR = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  DNAME: 39,
  OPT: 41,
  DS: 43,
  SSHFP: 44,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  NSEC3: 50,
  TLSA: 52,
  SVCB: 64,
  HTTPS: 65,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
  CAA: 257,
} as const;

export const CLASS_IN = 1;
export const CLASS_CH = 3;
export const CLASS_ANY = 255;

export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  YXDOMAIN: 6,
  YXRRSET: 7,
  NXRRSET: 8,
  NOTAUTH: 9,
  NOTZONE: 10,
  /** Extended (RFC 6891 section 6.1.3): its upper bits travel in the OPT record. */
  BADVERS: 16,
} as const;

/** Bits of the second 16-bit word of a header. */
export const FLAG = {
  QR: 0x8000,
  AA: 0x0400,
  TC: 0x0200,
  RD: 0x0100,
  RA: 0x0080,
  AD: 0x0020,
  CD: 0x0010,
} as const;

/** A message without EDNS may not be larger over UDP (RFC 1035 section 4.2.1). */
export const MIN_UDP_SIZE = 512;
export const MAX_MESSAGE_SIZE = 65_535;
export const HEADER_SIZE = 12;

const TYPE_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(RR).map(([name, code]) => [code, name]));
const TYPE_CODES: ReadonlyMap<string, number> = new Map(Object.entries(RR));
const RCODE_NUMBERS: ReadonlyMap<string, number> = new Map(Object.entries(RCODE));
const RCODE_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(RCODE).map(([name, code]) => [code, name]));

/** The code of a name in any case; undefined for one without a name here. */
export function rcodeNumber(name: string): number | undefined {
  return RCODE_NUMBERS.get(name.toUpperCase());
}

/** `A`, `SRV`, …; `TYPE123` for one that has no name here (RFC 3597). */
export function typeName(code: number): string {
  return TYPE_NAMES.get(code) ?? `TYPE${code}`;
}

/** The number of a type name in any case, `TYPE123` included; undefined for anything else. */
export function typeCode(name: string): number | undefined {
  const upper = name.toUpperCase();
  const known = TYPE_CODES.get(upper);
  if (known !== undefined) return known;
  const number = /^TYPE([0-9]{1,5})$/.exec(upper)?.[1];
  return number !== undefined && Number(number) <= 0xffff ? Number(number) : undefined;
}

/** `NOERROR`, `NXDOMAIN`, …; the number as text for one without a name here. */
export function rcodeName(code: number): string {
  return RCODE_NAMES.get(code) ?? String(code);
}
