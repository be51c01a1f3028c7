// `trace`: words → one packet → its steps and verdict, as text and JSON.

import { hostPort, ipFamily, parseIp, type Ip } from '../lib/ip.ts';
import { parsePort, type Port } from '../lib/port.ts';
import type { Protocol } from '../model/records.ts';
import type { NodeIdentity, Snapshot } from '../model/snapshot.ts';
import type { RulesMode } from '../rules/backend.ts';
import type { DetectLocal, RulesConfig } from '../rules/config.ts';
import { explainPacket, type TraceStep } from '../rules/explain-packet.ts';
import { nodeViewOf } from '../rules/node-view.ts';
import { FrontendIndex, type Packet, type Verdict } from '../rules/packet.ts';
import { CommandError, UsageError } from './errors.ts';
import { unknownService } from './explain-service.ts';

export interface TraceInput {
  readonly snapshot: Snapshot;
  readonly config: RulesConfig;
  readonly mode: RulesMode;
  /** The machine's own addresses, when it is the node. */
  readonly own: readonly Ip[];
}

export interface PacketTrace {
  /** What was asked for, with names turned into addresses. */
  readonly from: string;
  readonly to: string;
  readonly node: string;
  readonly mode: RulesMode;
  readonly steps: readonly TraceStep[];
  readonly verdict: 'forward' | 'REJECT' | 'DROP' | 'untouched';
  readonly targets: readonly { readonly endpoint: string; readonly masquerade: boolean }[];
}

/** Throws UsageError for words that are no packet, and CommandError for a Pod or Service that is unknown. */
export function tracePacket(from: string, to: string, input: TraceInput): PacketTrace {
  const { snapshot, config, mode, own } = input;
  const destination = parseDestination(to, snapshot);
  const source = parseSource(from, ipFamily(destination.ip), snapshot);
  if (ipFamily(source.ip) !== ipFamily(destination.ip)) {
    throw new UsageError(`${source.ip} and ${destination.ip} are of two address families; no packet goes between them`);
  }
  const packet: Packet = {
    source: source.ip,
    destination: destination.ip,
    protocol: destination.protocol,
    port: destination.port,
    inputInterface: interfaceOf(source.ip, snapshot, config.detectLocal),
  };
  const view = nodeViewOf(snapshot, config, own, mode);
  const { steps, verdict } = explainPacket(packet, new FrontendIndex(snapshot), view);
  return {
    from: source.shown,
    to: destination.shown,
    node: snapshot.node.name,
    mode,
    steps: [...elsewhere(source.ip, snapshot), ...steps],
    verdict: verdictWord(verdict),
    targets:
      verdict.kind === 'forward'
        ? verdict.targets.map(({ endpoint, masquerade }) => ({
            endpoint: hostPort(endpoint.ip, endpoint.port),
            masquerade,
          }))
        : [],
  };
}

export function traceText({ from, to, node, mode, steps, verdict, targets }: PacketTrace): string {
  const width = Math.max(...steps.map(({ step }) => step.length));
  const masked = targets.filter(({ masquerade }) => masquerade).length;
  const masquerade = masked === 0 ? 'no' : masked === targets.length ? 'yes' : 'for some';
  return [
    `${from} to ${to}, on node ${node} in mode ${mode}`,
    ...steps.map(({ step, says }, index) => `  ${index + 1}. ${step.padEnd(width)}  ${says}`),
    ...(verdict === 'forward'
      ? [
          `verdict: ${targets.map((target) => `${target.endpoint}${masquerade === 'for some' && target.masquerade ? ' (masqueraded)' : ''}`).join(', ')}`,
          `masquerade: ${masquerade}`,
        ]
      : [`verdict: ${verdict}`]),
    '',
  ].join('\n');
}

function verdictWord(verdict: Verdict): PacketTrace['verdict'] {
  switch (verdict.kind) {
    case 'forward':
      return 'forward';
    case 'reject':
      return 'REJECT';
    case 'drop':
      return 'DROP';
    case 'untouched':
      return 'untouched';
  }
}

/** Where Pods are told by interface, an endpoint of this node comes in by one of theirs. */
function interfaceOf(source: Ip, snapshot: Snapshot, detectLocal: DetectLocal): string | undefined {
  const name =
    detectLocal.kind === 'bridge'
      ? detectLocal.interface
      : detectLocal.kind === 'interface-prefix'
        ? detectLocal.prefix
        : undefined;
  if (name === undefined) return undefined;
  for (const { members } of snapshot.services.values()) {
    if (members.some(({ endpoint }) => endpoint.ip === source && endpoint.nodeName === snapshot.node.name)) return name;
  }
  return undefined;
}

/** A Pod's packet is judged on the Pod's own node. */
function elsewhere(source: Ip, snapshot: Snapshot): readonly TraceStep[] {
  for (const { members } of snapshot.services.values()) {
    for (const { endpoint } of members) {
      if (endpoint.ip !== source || endpoint.nodeName === undefined || endpoint.nodeName === snapshot.node.name)
        continue;
      const says = `${source} runs on ${endpoint.nodeName}: that node judges its packets first; this is what ${snapshot.node.name} would do with one`;
      return [{ step: 'source', says }];
    }
  }
  return [];
}

function parseSource(text: string, family: 4 | 6, snapshot: Snapshot): { readonly ip: Ip; readonly shown: string } {
  const ip = parseIp(text);
  if (ip) return { ip, shown: ip };
  if (text === 'node') {
    const own = addressOfNode(snapshot.node, family);
    return { ip: own, shown: `the node (${own})` };
  }
  if (!/^[^/\s]+\/[^/\s]+$/.test(text)) {
    throw new UsageError(`SRC is an address, \`node\`, or a Pod as NAMESPACE/NAME, not "${text}"`);
  }
  const [namespace = '', name = ''] = text.split('/');
  for (const pod of podAddresses(snapshot, namespace, name)) {
    if (ipFamily(pod) === family) return { ip: pod, shown: `Pod ${text} (${pod})` };
  }
  throw new CommandError(
    `no Pod ${text} with an IPv${family} address is known here. Only Pods behind a Service are, and those of a folder; give its address.`,
  );
}

function podAddresses(snapshot: Snapshot, namespace: string, name: string): readonly Ip[] {
  const own = snapshot.pods.get(`${namespace}/${name}`);
  const found = own ? [own.ip] : [];
  for (const { record, members } of snapshot.services.values()) {
    if (record.namespace !== namespace) continue;
    for (const { endpoint } of members) if (endpoint.podName === name) found.push(endpoint.ip);
  }
  return found;
}

function addressOfNode(node: NodeIdentity, family: 4 | 6): Ip {
  const ip = node.ips.find((each) => ipFamily(each) === family);
  if (ip) return ip;
  throw new CommandError(
    `no IPv${family} address of node ${node.name} is known (is it the right --node-name?); give the address`,
  );
}

interface Destination {
  readonly ip: Ip;
  readonly port: Port;
  readonly protocol: Protocol;
  readonly shown: string;
}

/** `IP:PORT[/PROTO]`, `[IPv6]:PORT[/PROTO]`, `node:PORT[/PROTO]` or `NAMESPACE/NAME:PORT[/PROTO]`, a port number or its name; TCP when left out. */
function parseDestination(text: string, snapshot: Snapshot): Destination {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):([^:/\s]+)(?:\/([A-Za-z]+))?$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const portText = match?.[3] ?? '';
  const protocol = (match?.[4] ?? 'TCP').toUpperCase();
  if (!match || (protocol !== 'TCP' && protocol !== 'UDP' && protocol !== 'SCTP')) throw badDestination(text);
  const ip = parseIp(host) ?? (host === 'node' ? addressOfNode(snapshot.node, 4) : undefined);
  if (!ip && host.includes('/')) return destinationOfService(host, portText, protocol, snapshot);
  const port = parsePort(portText);
  if (!ip || port === undefined) throw badDestination(text);
  return { ip, port, protocol, shown: `${hostPort(ip, port)}/${protocol}` };
}

function destinationOfService(key: string, portText: string, protocol: Protocol, snapshot: Snapshot): Destination {
  const service = snapshot.services.get(key);
  if (!service) throw unknownService(key, snapshot);
  const fits = service.ports.find(
    (each) => each.protocol === protocol && (each.name === portText || String(each.port) === portText),
  );
  if (!fits) {
    const there = service.ports.map(
      (each) => `${each.name === '' ? '' : `${each.name} `}${each.port}/${each.protocol}`,
    );
    throw new CommandError(
      `Service ${key} has no port ${portText}/${protocol}. It has: ${[...new Set(there)].join(', ') || 'none'}.`,
    );
  }
  if (fits.clusterIP === undefined) {
    throw new CommandError(
      `Service ${key} has no ClusterIP; give the address that is meant (\`fairlead explain service ${key}\` shows what it has).`,
    );
  }
  const where = `${hostPort(fits.clusterIP, fits.port)}/${protocol}`;
  return { ip: fits.clusterIP, port: fits.port, protocol, shown: `${key} (${where})` };
}

function badDestination(text: string): UsageError {
  return new UsageError(
    `DST is IP:PORT/PROTO, [IPv6]:PORT/PROTO, node:PORT/PROTO or NAMESPACE/NAME:PORT/PROTO with PROTO TCP, UDP or SCTP, not "${text}"`,
  );
}
