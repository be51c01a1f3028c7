// hosts: names and addresses as /etc/hosts has them, from a file and from the Corefile.

import { parseIp, type Ip } from '../../lib/ip.ts';
import { answered, coded } from '../answers.ts';
import type { BlockDraft, BlockServices, PluginDefinition } from '../block.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, zoneOf, zones } from '../corefile/words.ts';
import type { Handler, Outcome } from '../handler.ts';
import { lowerName, parseName, ROOT, type DnsName } from '../wire/name.ts';
import { addressData, addressType } from '../wire/record.ts';
import { RCODE, RR } from '../wire/types.ts';
import { reverseName } from '../zone/reverse.ts';

const DEFAULT_TTL = 3600;
const DEFAULT_RELOAD_MS = 5000;

/** What the file and the inline entries say. */
export interface HostTable {
  readonly addresses: ReadonlyMap<DnsName, readonly Ip[]>;
  /** By reverse name. */
  readonly names: ReadonlyMap<DnsName, readonly DnsName[]>;
}

/** Entries are ADDRESS NAME…; what is none is left out. */
export function hostTable(lines: readonly string[]): HostTable {
  const addresses = new Map<DnsName, Ip[]>();
  const names = new Map<DnsName, DnsName[]>();
  for (const line of lines) {
    const [address = '', ...words] = line
      .replace(/#.*/s, '')
      .split(/\s+/)
      .filter((word) => word !== '');
    const ip = parseIp(address.replace(/%.*/, ''));
    if (!ip) continue;
    for (const word of words) {
      const name = parseName(word);
      if (!name) continue;
      append(addresses, lowerName(name), ip);
      // A wildcard is the name of no machine.
      if (!word.startsWith('*.')) append(names, reverseName(ip), lowerName(name));
    }
  }
  return { addresses, names };
}

function show({ metrics, clock }: Pick<BlockServices, 'metrics' | 'clock'>, path: string, table: HostTable): void {
  const entries = metrics.gauge({
    name: 'coredns_hosts_entries',
    help: 'Entries of the file and of the Corefile, by name and by address.',
    labels: ['hostsfile'],
  });
  const readAt = metrics.gauge({
    name: 'coredns_hosts_reload_timestamp_seconds',
    help: 'When the file was last read and had changed.',
  });
  entries.set(sizeOf(table), { hostsfile: path });
  readAt.set(clock.now() / 1000);
}

function sizeOf({ addresses, names }: HostTable): number {
  return [...addresses.values(), ...names.values()].reduce((sum, { length }) => sum + length, 0);
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const values = map.get(key);
  if (!values) map.set(key, [value]);
  else if (!values.includes(value)) values.push(value);
}

interface HostsOptions {
  readonly zones: readonly DnsName[];
  readonly ttl: number;
  readonly reverse: boolean;
  readonly fallthrough: readonly DnsName[];
  /** Types that hosts never has are handed on, for names that it has, too. */
  readonly otherTypesFall: boolean;
  readonly table: () => HostTable;
}

export function hostsHandler({ zones: own, ttl, reverse, fallthrough, otherTypesFall, table }: HostsOptions): Handler {
  return {
    name: 'hosts',
    byQuestion: true,
    handle: (asked, next) => {
      const { key, type } = asked.query;
      if (zoneOf(key, own) === undefined) {
        // Addresses in the table have names, whatever the zones are.
        const targets = reverse && type === RR.PTR ? table().names.get(key) : undefined;
        return targets ? pointers(targets, ttl) : next(asked);
      }
      const { addresses, names } = table();
      const targets = reverse && type === RR.PTR ? names.get(key) : undefined;
      if (targets) return pointers(targets, ttl);
      const ips = addresses.get(key) ?? wildcard(addresses, key);
      if (ips && otherTypesFall && type !== RR.A && type !== RR.AAAA && type !== RR.PTR) return next(asked);
      if (ips) {
        const answer = ips
          .filter((ip) => addressType(ip) === type)
          .map((ip) => ({ owner: undefined, type, ttl, data: addressData(ip) }));
        return answered({ answer });
      }
      if (zoneOf(key, fallthrough) !== undefined) return next(asked);
      return coded(RCODE.SERVFAIL, 'hosts has no such name, and is told to hand none on');
    },
  };
}

function warnOf({ place }: Option, { doors }: BlockDraft, what: string): void {
  doors.warn(`${place.file}:${place.line}: hosts: ${what}`);
}

function pointers(targets: readonly DnsName[], ttl: number): Outcome {
  return answered({ answer: targets.map((data) => ({ owner: undefined, type: RR.PTR, ttl, data })) });
}

/** `*` as the first label stands for any one. */
function wildcard(addresses: HostTable['addresses'], key: DnsName): readonly Ip[] | undefined {
  if (key === ROOT) return undefined;
  return addresses.get(`\x01*${key.slice(1 + key.charCodeAt(0))}` as DnsName);
}

const OPTIONS: ReadonlySet<string> = new Set(['ttl', 'reload', 'no_reverse', 'fallthrough', 'fallthrough_unsupported']);

export const hosts: PluginDefinition = {
  name: 'hosts',
  once: true,
  setup: async ({ args, options, place }, draft) => {
    const path = draft.doors.pathOf(args[0] ?? '/etc/hosts', place);
    const inline: string[] = [];
    const read = {
      ttl: DEFAULT_TTL,
      reloadMs: DEFAULT_RELOAD_MS,
      reverse: true,
      fallthrough: [] as readonly DnsName[],
      otherTypesFall: false,
    };
    for (const option of options) {
      const { name, args: words } = option;
      if (!OPTIONS.has(name)) {
        if (parseIp(name)) inline.push([name, ...words].join(' '));
        // As a line of the file would be.
        else warnOf(option, draft, `"${name}" is neither an option nor an address; the line is left out`);
      } else if (name === 'ttl') {
        count(words, option.place, name, 1);
        read.ttl = integer(words[0] ?? '', option.place, name, 1, 65_535);
      } else if (name === 'reload') {
        count(words, option.place, name, 1);
        read.reloadMs = duration(words[0] ?? '', option.place);
      } else if (name === 'no_reverse') read.reverse = false;
      else if (name === 'fallthrough') read.fallthrough = zones(words, option.place, [ROOT]);
      else {
        count(words, option.place, name, 0);
        read.otherTypesFall = true;
      }
    }
    const text = await draft.doors.readText(path);
    if (text === undefined) draft.doors.warn(`${place.file}:${place.line}: there is no file ${path} yet`);
    let table = hostTable([...inline, ...(text ?? '').split('\n')]);
    const own = zones(args.slice(1), place, draft.zones);
    draft.answer('hosts', (services) => {
      show(services, path, table);
      return hostsHandler({ zones: own, ...read, table: () => table });
    });
    if (read.reloadMs <= 0) return;
    draft.tasks.push(async (services: BlockServices) => {
      const { clock, stopped, readText, changed } = services;
      let seen = text;
      while (!stopped.aborted) {
        await clock.sleep(read.reloadMs, stopped);
        if (stopped.aborted) return;
        const now = await readText(path);
        if (now === undefined || now === seen) continue;
        seen = now;
        table = hostTable([...inline, ...now.split('\n')]);
        show(services, path, table);
        changed();
      }
    });
  },
};
