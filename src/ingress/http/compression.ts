// Which answers are compressed, and what that does to their heads: pure. As nginx decides, but for `no-transform`, which it passes over (RFC 9111 section 5.2.2.6).

import type { LinearRegex } from '../../lib/linear-regex.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

export type Coding = 'gzip' | 'br';

export interface CodingRules {
  readonly level: number;
  /** Of a body whose length is known. */
  readonly minLength: number;
  /** Media types in lower case; `*` for all. */
  readonly types: ReadonlySet<string>;
}

export interface Compression {
  readonly gzip: CodingRules | undefined;
  readonly brotli: CodingRules | undefined;
  /** Clients, by their User-Agent, that get no gzip. */
  readonly notFor: LinearRegex | undefined;
}

/** What a client takes. */
export interface Accepted {
  readonly gzip: boolean;
  readonly br: boolean;
}

export interface CodingChoice {
  /** Undefined: it goes on as it is. */
  readonly coding: Coding | undefined;
  readonly level: number;
  /** Lines for the client. What they replace is taken out of the head. */
  readonly fields: string;
}

const NEITHER: Accepted = { gzip: false, br: false };
/** nginx compresses these alone. */
const STATUSES: ReadonlySet<number> = new Set([200, 403, 404]);

export function acceptedBy(head: RequestHead, { notFor }: Compression): Accepted {
  const text = head.header('accept-encoding');
  if (text === undefined || head.minor === 0 || head.method === 'HEAD') return NEITHER;
  const taken = new Set<string>();
  for (const part of text.toLowerCase().split(',')) {
    const [name = '', ...parameters] = part.split(';').map((word) => word.trim());
    if (!parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter))) taken.add(name);
  }
  const gzip = taken.has('gzip') && !(notFor && notFor.test(head.header('user-agent') ?? ''));
  return { gzip, br: taken.has('br') };
}

/** Undefined when compression has nothing to do with this answer. */
export function codingFor(
  head: ResponseHead,
  bytes: Buffer,
  rules: Compression,
  accepted: Accepted,
): CodingChoice | undefined {
  if (head.body === 'none' || !STATUSES.has(head.status)) return undefined;
  if (head.value(bytes, 'content-encoding') !== undefined) return undefined;
  if (/(^|[,\s])no-transform([,\s]|$)/i.test(head.value(bytes, 'cache-control') ?? '')) return undefined;
  const type = (head.value(bytes, 'content-type') ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  const fits = (coding: CodingRules | undefined): coding is CodingRules =>
    coding !== undefined &&
    (coding.types.has('*') || coding.types.has(type)) &&
    !(head.body === 'length' && head.contentLength < coding.minLength);
  const { gzip, brotli } = rules;
  if (!fits(gzip) && !fits(brotli)) return undefined;
  // Whoever keeps the answer has to know that others may get another one.
  const varies = /(^|[,\s])(accept-encoding|\*)([,\s]|$)/i.test(head.value(bytes, 'vary') ?? '')
    ? ''
    : 'Vary: Accept-Encoding\r\n';
  const choice = (coding: Coding, level: number): CodingChoice => ({
    coding,
    level,
    fields: `Content-Encoding: ${coding}\r\n${varies}${transformed(head, bytes)}`,
  });
  if (accepted.br && fits(brotli)) return choice('br', brotli.level);
  if (accepted.gzip && fits(gzip)) return choice('gzip', gzip.level);
  return { coding: undefined, level: 0, fields: varies };
}

/** Length and ranges are those of other bytes now, and a strong validator would be wrong (RFC 9110 section 8.8.1). */
function transformed(head: ResponseHead, bytes: Buffer): string {
  const etag = head.value(bytes, 'etag');
  head.dropNamed(bytes, ['content-length', 'accept-ranges', 'etag']);
  if (etag === undefined || !/^(W\/)?"/.test(etag)) return '';
  return `ETag: ${etag.startsWith('W/') ? etag : `W/${etag}`}\r\n`;
}
