// What `conntrack -L` says of a flow, and the deletion of flows like it. Pure.

import { hostPort, parseIp, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { FlowQuery } from './plan.ts';

export interface Flow {
  readonly protocol: 'UDP' | 'TCP';
  /** Where the client sent to. */
  readonly destination: Ip;
  readonly port: number;
  /** Where the answers come from: the endpoint, or the destination itself when nothing was translated. */
  readonly replySource: Ip;
  readonly replyPort: number;
}

/** One line of `conntrack -L`; undefined for what is no TCP or UDP flow. */
export function parseFlow(line: string): Flow | undefined {
  const protocol = line.startsWith('udp ') ? 'UDP' : line.startsWith('tcp ') ? 'TCP' : undefined;
  if (protocol === undefined) return undefined;
  // The original direction stands first, the answers' second.
  const values = (name: string): readonly string[] =>
    [...line.matchAll(new RegExp(` ${name}=(\\S+)`, 'g'))].map((match) => match[1] ?? '');
  const destination = parseIp(values('dst')[0] ?? '');
  const replySource = parseIp(values('src')[1] ?? '');
  const port = Number(values('dport')[0]);
  const replyPort = Number(values('sport')[1]);
  if (!destination || !replySource || !(port >= 0) || !(replyPort >= 0)) return undefined;
  return { protocol, destination, port, replySource, replyPort };
}

export function isStale(flow: Flow, { stale }: FlowQuery): boolean {
  const endpoint = hostPort(flow.replySource, flow.replyPort);
  if (stale.kind === 'only') return stale.endpoints.has(endpoint);
  if (stale.endpoints.has(endpoint)) return false;
  return stale.untranslated || flow.replySource !== flow.destination || flow.replyPort !== flow.port;
}

export function placeOfFlow({ protocol, destination, port }: Flow): string {
  return `${protocol} ${hostPort(destination, port)}`;
}

export function placeOfQuery({ protocol, address, port }: FlowQuery): string {
  return `${protocol} ${hostPort(address, port)}`;
}

/** Deletes every flow to that place that the same endpoint answers. One line of `conntrack -R`, or its arguments. */
export function deletion(flow: Flow, family: IpFamily): string {
  return [
    `-D -f ipv${family} -p ${flow.protocol.toLowerCase()}`,
    `--orig-dst ${flow.destination} --orig-port-dst ${flow.port}`,
    `--reply-src ${flow.replySource} --reply-port-src ${flow.replyPort}`,
  ].join(' ');
}
