// The cells of a packet row, read once for every consumer.

import { cidrContains } from '../../../src/lib/cidr.ts';
import { hostPort, type Ip } from '../../../src/lib/ip.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import { parsePort } from '../../../src/lib/port.ts';
import type { Packet } from '../../../src/rules/packet.ts';
import { ScenarioError, type Row } from './parse.ts';
import { NODE_VIEW, POD_CIDRS, sourceOf } from './world.ts';

export type ExpectedVerdict =
  /** `endpoints` are `ip:port`. With `sticky`, one client meets only one of them. */
  | { readonly kind: 'forward'; readonly endpoints: readonly string[]; readonly sticky: boolean }
  | { readonly kind: 'REJECT' }
  | { readonly kind: 'DROP' }
  | { readonly kind: 'untouched' };

export interface ExpectedPacket {
  readonly packet: Packet;
  readonly verdict: ExpectedVerdict;
  /** Undefined where the row does not say. */
  readonly masquerade: boolean | undefined;
}

export function expectedPacket(file: string, row: Row): ExpectedPacket {
  const fail = (message: string): never => {
    throw new ScenarioError(file, row.line, message);
  };
  const from = row.cells['from'] ?? '';
  const source = sourceOf(from) ?? fail(`"${from}" is no address, and not node or client`);
  const to = row.cells['to'] ?? '';
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):([0-9]+)(?:\/(tcp|udp|sctp))?$/i.exec(to);
  const destination = parseIp(match?.[1] ?? match?.[2] ?? '');
  const port = parsePort(match?.[3] ?? '');
  if (!destination || !port) return fail(`"${to}" is not IP:PORT/PROTO`);
  const protocol = protocolOf(match?.[4]);
  return {
    packet: { source, destination, protocol, port, inputInterface: inputInterfaceOf(source) },
    verdict: verdictOf(row.cells['verdict'] ?? '', fail),
    masquerade: masqueradeOf(row.cells['masquerade'], fail),
  };
}

/** As the namespaces of the kernel run are joined: Pods are on `pod0`, `pod1`…, the outside is on `eth0`. */
function inputInterfaceOf(source: Ip): string | undefined {
  if (NODE_VIEW.isLocal(source)) return undefined;
  return POD_CIDRS.some((range) => cidrContains(range, source)) ? 'pod0' : 'eth0';
}

/** The endpoints of a cell: `ip:port, ip:port`, sorted. */
export function endpointList(cell: string): readonly string[] {
  return cell
    .split(/[\s,]+/)
    .filter((part) => part !== '')
    .sort();
}

export function endpointText(endpoint: { readonly ip: Ip; readonly port: number }): string {
  return hostPort(endpoint.ip, endpoint.port);
}

export function isNothing(cell: string | undefined): boolean {
  return cell === undefined || cell === '' || cell === '–' || cell === '-';
}

function protocolOf(text: string | undefined): Packet['protocol'] {
  const upper = (text ?? 'tcp').toUpperCase();
  return upper === 'UDP' || upper === 'SCTP' ? upper : 'TCP';
}

function verdictOf(cell: string, fail: (message: string) => never): ExpectedVerdict {
  if (isNothing(cell)) return { kind: 'untouched' };
  if (cell === 'REJECT' || cell === 'DROP') return { kind: cell };
  const sticky = cell.startsWith('one of ');
  const endpoints = endpointList(sticky ? cell.slice('one of '.length) : cell);
  for (const endpoint of endpoints) {
    if (!/^(\[[0-9a-f:.]+\]|[0-9.]+):[0-9]+$/.test(endpoint))
      fail(`"${endpoint}" is no verdict: ip:port, REJECT, DROP or –`);
  }
  return { kind: 'forward', endpoints, sticky };
}

function masqueradeOf(cell: string | undefined, fail: (message: string) => never): boolean | undefined {
  if (isNothing(cell)) return undefined;
  if (cell === 'yes' || cell === 'true') return true;
  if (cell === 'no' || cell === 'false') return false;
  return fail(`masquerade is yes, no or –, not "${cell}"`);
}
