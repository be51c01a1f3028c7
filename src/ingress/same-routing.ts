import { deepEqual } from '../lib/equal.ts';
import type { IngressRecord } from '../model/records.ts';

/** Whether two states of an Ingress route alike: its status is what we write ourselves. */
export function sameRouting(a: IngressRecord, b: IngressRecord): boolean {
  return a === b || deepEqual({ ...a, published: b.published }, b);
}
