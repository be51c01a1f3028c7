import type { TraceResult } from '../../../src/rules/traced.ts';
import { setDifference } from './consumer.ts';
import type { ExpectedPacket } from './expect.ts';

/** What is wrong with the traced rules of a packet row, in a sentence; undefined when nothing is. */
export function compareTrace(
  what: string,
  { verdict, masquerade }: ExpectedPacket,
  actual: TraceResult,
): string | undefined {
  const wanted =
    verdict.kind === 'forward' ? verdict.endpoints : [verdict.kind === 'untouched' ? 'none' : verdict.kind];
  const got = typeof actual.verdict === 'string' ? [actual.verdict] : actual.verdict;
  const difference = setDifference(wanted, got);
  if (difference) return `${what}: ${difference}`;
  if (masquerade === undefined || verdict.kind !== 'forward') return undefined;
  const wrong = actual.targets.filter((target) => target.masquerade !== masquerade);
  return wrong.length === 0 ? undefined : `${what}: masquerade: expected ${masquerade}, got ${!masquerade}`;
}
