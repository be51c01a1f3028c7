import * as fc from 'fast-check';
import { prependLabel, ROOT, type DnsName } from '../../src/dns/wire/name.ts';

const anyLabel = fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString('latin1'));

/** Names of any bytes, for property tests. */
export const anyName: fc.Arbitrary<DnsName> = fc
  .array(anyLabel, { maxLength: 8 })
  .map((labels) => labels.reduceRight<DnsName>((name, label) => prependLabel(label, name) ?? name, ROOT));
