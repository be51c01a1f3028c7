// The listeners of a Snapshot and the endpoints behind them, as text: what `render --mode userspace` prints. Pure.

import type { Ip } from '../../lib/ip.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { RulesConfig } from '../config.ts';
import { externalAction, internalAction, shortCircuitAction, type Action, type Frontend } from '../intent.ts';
import { endpointKey } from './balance.ts';
import { servicePortName } from './notice.ts';
import { nodePortAddresses, planListeners, sctpPortsOf } from './plan.ts';

const LOOPBACK = ['127.0.0.1', '::1'] as readonly string[] as readonly Ip[];

/**
 * One line a listener, sorted, and an indented line for each endpoint. The text is the same on every machine: NodePorts are shown on
 * the node's addresses and loopback, whatever interfaces there are here.
 */
export function renderUserspace(snapshot: Snapshot, config: RulesConfig): string {
  const own = [...new Set([...snapshot.node.ips, ...LOOPBACK])];
  const nodePortIps = nodePortAddresses(config.nodePortAddresses, snapshot.node.ips, own);
  const lines: string[] = [];
  for (const { key, frontend } of planListeners(snapshot, nodePortIps).values()) {
    lines.push(`${key} ${servicePortName(frontend.servicePort.key)} ${frontend.kind}${affinityOf(frontend)}`);
    lines.push(...actionLines(frontend));
  }
  const sctp = [...snapshot.services.values()].flatMap(sctpPortsOf).sort();
  for (const key of sctp) lines.push(`# SCTP ${servicePortName(key)}: not in userspace`);
  return lines.map((line) => `${line}\n`).join('');
}

function affinityOf({ servicePort }: Frontend): string {
  const seconds = servicePort.affinityTimeoutSeconds;
  return seconds === undefined ? '' : ` affinity ${seconds}s`;
}

function actionLines(frontend: Frontend): readonly string[] {
  const { kind, servicePort } = frontend;
  if (kind === 'clusterIP') return linesOf('', internalAction(servicePort));
  const ranges = kind === 'loadBalancerIP' ? servicePort.sourceRanges : undefined;
  const lines = ranges ? [`    only from ${ranges.join(' ')}, others dropped`] : [];
  if (servicePort.externalTrafficPolicy === 'Cluster') return [...lines, ...linesOf('', externalAction(servicePort))];
  return [
    ...lines,
    ...linesOf('from outside ', externalAction(servicePort)),
    ...linesOf('from this node and its pods ', shortCircuitAction(servicePort)),
  ];
}

function linesOf(whence: string, action: Action): readonly string[] {
  if (action.kind !== 'forward') return [`    ${whence}-> ${action.kind}`];
  return action.endpoints.map((endpoint) => `    ${whence}-> ${endpointKey(endpoint)}`);
}
