// A packet row held against something that answers: the userspace relays or the kernel.

import { setDifference } from './consumer.ts';
import type { ExpectedPacket } from './expect.ts';

/** How one try ended. `by` is the `ip:port` of the endpoint that answered. */
export type ProbeOutcome =
  | { readonly kind: 'answered'; readonly by: string; readonly peerSeen: string }
  | { readonly kind: 'refused' | 'unreachable' | 'silence' };

export interface ProbeOptions {
  readonly probe: (expected: ExpectedPacket) => Promise<ProbeOutcome>;
  /** False where the backend has no masquerading of its own: a relay's connections always come from the node. */
  readonly seesMasquerade: boolean;
  /** A relay has accepted before it can decide: it drops by never answering, or by a reset. */
  readonly dropMayReset: boolean;
}

/** Where an answer is expected it may take its time; silence is told soon, as an answer inside the machine takes well under a millisecond. */
export function patienceMs({ verdict }: ExpectedPacket): number {
  return verdict.kind === 'forward' || verdict.kind === 'REJECT' ? 10_000 : 400;
}

/** Tries until every endpoint of the row has answered, at most this often for each. */
const TRIES_FOR_EACH = 25;

export async function probeRow(expected: ExpectedPacket, options: ProbeOptions): Promise<string | undefined> {
  const { verdict } = expected;
  if (verdict.kind === 'forward') return probeForward(expected, verdict.endpoints, verdict.sticky, options);
  const outcome = await options.probe(expected);
  if (outcome.kind === 'answered') return `expected ${verdict.kind}, but ${outcome.by} answered`;
  const wanted = { REJECT: ['refused'], DROP: ['silence'], untouched: ['refused', 'unreachable', 'silence'] }[
    verdict.kind
  ];
  if (verdict.kind === 'DROP' && options.dropMayReset) wanted.push('refused');
  return wanted.includes(outcome.kind) ? undefined : `expected ${verdict.kind}, got ${outcome.kind}`;
}

async function probeForward(
  expected: ExpectedPacket,
  endpoints: readonly string[],
  sticky: boolean,
  options: ProbeOptions,
): Promise<string | undefined> {
  const seen = new Set<string>();
  for (let i = 0; i < endpoints.length * TRIES_FOR_EACH && seen.size < endpoints.length; i++) {
    if (sticky && i === TRIES_FOR_EACH) break;
    const outcome = await options.probe(expected);
    if (outcome.kind !== 'answered') return `expected ${endpoints.join(', ')}, got ${outcome.kind}`;
    if (!endpoints.includes(outcome.by)) return `expected ${endpoints.join(', ')}, but ${outcome.by} answered`;
    seen.add(outcome.by);
    const masqueraded = outcome.peerSeen !== expected.packet.source;
    if (options.seesMasquerade && expected.masquerade !== undefined && isTelling(expected)) {
      if (masqueraded !== expected.masquerade) {
        return `masquerade: expected ${expected.masquerade}, but ${outcome.by} saw ${outcome.peerSeen}`;
      }
    }
  }
  if (sticky) return seen.size === 1 ? undefined : `expected one endpoint for one client, got ${[...seen].join(', ')}`;
  return setDifference(endpoints, [...seen]);
}

/** Masquerading changes nothing that an endpoint sees of a packet from the node itself. */
function isTelling({ packet }: ExpectedPacket): boolean {
  return !packet.source.startsWith('192.168.0.') && packet.source !== '2001:db8:1::2';
}
