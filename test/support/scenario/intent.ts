import type { Snapshot } from '../../../src/model/snapshot.ts';
import type { RulesMode } from '../../../src/rules/backend.ts';
import { FrontendIndex, judge, type NodeView, type Verdict } from '../../../src/rules/packet.ts';
import { setDifference, type Consumer, type Start } from './consumer.ts';
import { endpointText, expectedPacket, type ExpectedPacket } from './expect.ts';
import { walk } from './run.ts';
import { viewUnder } from './settings.ts';
import { IPTABLES_VIEW, IPVS_VIEW, NODE_VIEW } from './world.ts';

const start: Start = async ({ file, only, settings }) => {
  // What the modes do differently is judged as the one that has it.
  const view = only === undefined || only.includes('nftables') ? NODE_VIEW : viewOf(only);
  let now = view;
  let index: FrontendIndex | undefined;
  return {
    update: async ({ snapshot }) => {
      index = new FrontendIndex(snapshot);
      // Only nftables mode knows the ranges that Services have their addresses of.
      const unallocated = view.mode === undefined ? snapshot.serviceCIDRs : [];
      now = viewUnder({ ...view, unallocated }, settings);
    },
    check: async (_kind, row) => {
      const expected = expectedPacket(file, row);
      return index && compareVerdict(expected, judge(expected.packet, index, now));
    },
    nothingRemains: async (empty: Snapshot) =>
      [...empty.services.values()].some(({ ports }) => ports.length > 0) ? 'frontends remain' : undefined,
    stop: async () => {},
  };
};

function viewOf(only: readonly RulesMode[]): NodeView {
  if (only.includes('iptables')) return IPTABLES_VIEW;
  return only.includes('ipvs') ? IPVS_VIEW : NODE_VIEW;
}

/** Holds `packets` tables against the pure judgement that all backends have to bring about. */
export const intentConsumer: Consumer = {
  name: 'intent',
  reads: ['packets'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, intentConsumer, start),
};

function compareVerdict(expected: ExpectedPacket, verdict: Verdict): string | undefined {
  const actual =
    verdict.kind === 'forward' ? verdict.targets.map(({ endpoint }) => endpointText(endpoint)) : [verdict.kind];
  const wanted =
    expected.verdict.kind === 'forward' ? expected.verdict.endpoints : [expected.verdict.kind.toLowerCase()];
  const difference = setDifference(wanted, actual);
  if (difference) return difference;
  if (verdict.kind !== 'forward' || expected.masquerade === undefined) return undefined;
  const wrong = verdict.targets.filter(({ masquerade }) => masquerade !== expected.masquerade);
  return wrong.length === 0 ? undefined : `masquerade: expected ${expected.masquerade}, got ${!expected.masquerade}`;
}
