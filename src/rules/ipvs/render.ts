// Changes → what the tools read: `ipset restore`, `ipvsadm --restore`, `ip -batch`. Pure.

import { cidrOfIp } from '../../lib/cidr.ts';
import type { Ip, IpFamily } from '../../lib/ip.ts';
import { PersistentMap } from '../../lib/persistent-map.ts';
import type { Protocol } from '../../model/records.ts';
import type { Snapshot } from '../../model/snapshot.ts';
import type { IpvsConfig, RulesConfig } from '../config.ts';
import { FAMILIES } from '../iptables/names.ts';
import { renderRestore } from '../iptables/render.ts';
import type { VirtualServer } from './contribution.ts';
import { fixedChains, jumps } from './layout.ts';
import {
  KNOWN_SETS,
  LINK,
  partsOfServer,
  type KnownSet,
  type RealKey,
  type ServerKey,
  type SetEntry,
} from './names.ts';
import { Planner, type PlanChanges, type ServerChange } from './plan.ts';

/** As kube-proxy makes its sets; one that has to hold more is larger. */
const CAPACITY = 65_536;

/** How many entries a set is made for: twice as many as it is to hold, where the usual is too few. */
export function capacityFor(entries: number): number {
  return entries <= CAPACITY ? CAPACITY : 2 ** Math.ceil(Math.log2(entries * 1.5));
}

export function createSet({ name, family, type }: KnownSet, capacity: number): string {
  if (type === 'bitmap:port') return `create ${name} ${type} range 0-65535\n`;
  return `create ${name} ${type} family ${family === 4 ? 'inet' : 'inet6'} hashsize 1024 maxelem ${capacity}\n`;
}

export function entryLines(verb: 'add' | 'del', entries: readonly SetEntry[]): string {
  return entries.map((entry) => `${verb} ${entry}\n`).join('');
}

export function addressLines({ added, removed }: PlanChanges['addresses']): string {
  const line = (verb: string, ip: Ip): string => `addr ${verb} ${cidrOfIp(ip)} dev ${LINK}\n`;
  return added.map((ip) => line('add', ip)).join('') + removed.map((ip) => line('del', ip)).join('');
}

const PROTOCOL_OPTIONS: Readonly<Record<Protocol, string>> = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' };

/** `-t 172.30.0.1:80`. */
export function serverWords(key: ServerKey): string {
  const { protocol, place } = partsOfServer(key);
  return `${PROTOCOL_OPTIONS[protocol]} ${place}`;
}

/** What stands behind the address of a virtual server, as `ipvsadm --save` writes it. */
export function serverOptions({ persistence }: VirtualServer, { scheduler }: IpvsConfig): string {
  // The hash of mh takes the port, too, as with kube-proxy: one client's connections go to many.
  const flags = schedulerOf(scheduler) === 'mh' ? ' -b mh-port' : '';
  return `-s ${schedulerOf(scheduler)}${persistence === undefined ? '' : ` -p ${persistence}`}${flags}`;
}

export function schedulerOf(scheduler: string): string {
  return scheduler === '' ? 'rr' : scheduler;
}

/** What the lines of a change leave behind of real servers that still have connections. */
export interface Draining {
  /** No new connections, the old ones go on: TCP only. */
  readonly drained: readonly RealKey[];
  /** Drain no more: they are wanted again, or gone. */
  readonly restored: readonly RealKey[];
}

export interface ServerLines extends Draining {
  readonly text: string;
}

/** What the kernel holds of a virtual server, but for real servers that are to go. */
export interface HeldServer {
  /** As `ipvsadm --save` writes them. */
  readonly options: string;
  readonly reals: readonly RealKey[];
}

export interface ServerStep {
  readonly key: ServerKey;
  readonly before: HeldServer | undefined;
  readonly after: VirtualServer | undefined;
}

/** The step that a change of the plan is. */
export function stepOf({ key, before, after }: ServerChange, ipvs: IpvsConfig): ServerStep {
  return { key, before: before && { options: serverOptions(before, ipvs), reals: before.reals }, after };
}

const FORWARD = '-m';

/**
 * The lines for one virtual server. `draining`: its real servers that have weight 0 now. A real server that is wanted no more gets weight
 * 0 while TCP connections may go on; flows of UDP and associations of SCTP move at once, as with kube-proxy, and so do connections that are
 * to be reset: the kernel answers them when it finds no real server any more.
 */
export function serverLines(
  { key, before, after }: ServerStep,
  draining: ReadonlySet<RealKey>,
  ipvs: IpvsConfig,
): ServerLines {
  const words = serverWords(key);
  if (after === undefined) return { text: before === undefined ? '' : `-D ${words}\n`, drained: [], restored: [] };
  const options = serverOptions(after, ipvs);
  let text = '';
  if (before === undefined) text += `-A ${words} ${options}\n`;
  else if (before.options !== options) text += `-E ${words} ${options}\n`;
  const had = new Set(before?.reals);
  const wanted = new Set(after.reals);
  const drained: RealKey[] = [];
  const restored: RealKey[] = [];
  for (const real of after.reals) {
    if (had.has(real)) continue;
    if (draining.has(real)) restored.push(real);
    text += `${draining.has(real) ? '-e' : '-a'} ${words} -r ${real} ${FORWARD} -w 1\n`;
  }
  const canDrain = partsOfServer(key).protocol === 'TCP';
  const drains = (real: RealKey): boolean => canDrain && (after.named?.includes(real) ?? true);
  for (const real of before?.reals ?? []) {
    if (wanted.has(real)) continue;
    if (drains(real)) {
      drained.push(real);
      text += drainLine(words, real);
    } else {
      text += removeReal(key, real);
    }
  }
  for (const real of draining) {
    if (wanted.has(real) || had.has(real) || drains(real)) continue;
    restored.push(real);
    text += removeReal(key, real);
  }
  return { text, drained, restored };
}

function drainLine(words: string, real: RealKey): string {
  return `-e ${words} -r ${real} ${FORWARD} -w 0\n`;
}

export function removeReal(key: ServerKey, real: RealKey): string {
  return `-d ${serverWords(key)} -r ${real}\n`;
}

/**
 * Everything for the Snapshot as text for `fairlead render`, what each tool loads into an empty kernel under a heading of its own. NodePorts
 * are at the Node's own addresses: which others the machine has is not known here. The same Snapshot gives the same text.
 */
export function renderIpvs(snapshot: Snapshot, config: RulesConfig): string {
  const planner = new Planner(config);
  const changes = planner.advance(snapshot, snapshot.node.ips);
  const entries = [...changes.entries.added].sort();
  const servers = [...changes.servers].sort((a, b) => (a.key < b.key ? -1 : 1));
  const counts = new Map<string, number>();
  for (const entry of entries) {
    const set = entry.slice(0, entry.indexOf(' '));
    counts.set(set, (counts.get(set) ?? 0) + 1);
  }
  const sets = [...KNOWN_SETS.values()].map((set) => createSet(set, capacityFor(counts.get(set.name) ?? 0))).join('');
  const chains = FAMILIES.map(
    (family) => `# ${iptablesRestore(family)}\n${renderRestore({ ...chainChanges(config, family), guard: undefined })}`,
  );
  const reals = servers.map((change) => serverLines(stepOf(change, config.ipvs), NOTHING, config.ipvs).text).join('');
  return [
    `# ipset restore\n${sets}${entryLines('add', entries)}`,
    ...chains,
    `# ipvsadm --restore\n${reals}`,
    `# ip -batch - (after: ip link add ${LINK} type dummy)\n${addressLines({ added: [...changes.addresses.added].sort(), removed: [] })}`,
  ].join('');
}

const NOTHING: ReadonlySet<RealKey> = new Set();

function iptablesRestore(family: IpFamily): string {
  return `iptables-restore, IPv${family}`;
}

function chainChanges(
  config: RulesConfig,
  family: IpFamily,
): Pick<Parameters<typeof renderRestore>[0], 'changes' | 'jumps'> {
  const chains = [...fixedChains(config, family)];
  return { changes: chains.map(([id, after]) => ({ id, before: undefined, after })), jumps: jumps() };
}

/** What is there because of the Services of the Snapshot, each line with its tool: what `explain` shows. */
export function renderServiceLines(snapshot: Snapshot, config: RulesConfig): string {
  const planner = new Planner(config);
  planner.advance({ ...snapshot, services: PersistentMap.empty() }, snapshot.node.ips);
  const { servers, addresses, entries } = planner.advance(snapshot, snapshot.node.ips);
  const lines = [
    ...linesOf('ipset', entryLines('add', entries.added)),
    ...servers.flatMap((change) =>
      linesOf('ipvsadm', serverLines(stepOf(change, config.ipvs), NOTHING, config.ipvs).text),
    ),
    ...linesOf('ip', addressLines(addresses)),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

function linesOf(tool: string, text: string): readonly string[] {
  return text.split('\n').flatMap((line) => (line === '' ? [] : [`${tool} ${line}`]));
}
