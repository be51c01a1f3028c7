// A kernel with IPVS, sets, the dummy link and iptables that understands our text, checked as strictly as the tools check it. `FakeIpvs`
// stands in for the tools; `trace.ts` sends packets through it.

import { ipBytes, parseIp, type Ip } from '../../lib/ip.ts';
import type { Exec, ExecOptions, ExecResult } from '../../system/exec.ts';
import { FakeIptables } from '../iptables/fake.ts';
import { LINK, type RealKey, type ServerKey } from './names.ts';

export interface FakeServer {
  options: string;
  readonly reals: Map<RealKey, { options: string; connections: number }>;
}

export interface FakeSet {
  readonly type: string;
  readonly family: string;
  readonly capacity: number;
  readonly entries: Set<string>;
}

/** A line that a tool does not take. */
class LineError extends Error {
  readonly code = 'line';
}

const PROTOCOLS = new Map([
  ['-t', 'TCP'],
  ['-u', 'UDP'],
  ['--sctp-service', 'SCTP'],
]);
const SERVER_OPTIONS = /^-s [a-z]+( -p [0-9]+)?( -b [a-z-]+(,[a-z-]+)*)?$/;
const REAL_OPTIONS = /^-[mgi] -w [0-9]+$/;

export class FakeIpvs implements Exec {
  readonly iptables = new FakeIptables();
  sets = new Map<string, FakeSet>();
  readonly servers = new Map<ServerKey, FakeServer>();
  /** The states of connections through a virtual server that are no longer active. */
  readonly ending = new Map<ServerKey, readonly string[]>();
  /** On the dummy link; undefined while there is none. */
  link: Set<Ip> | undefined;
  /** On other links. */
  readonly local: Ip[];
  /** On a dummy link of somebody else. */
  readonly dummy: Ip[] = [];
  /** Tools that changed something, with what they read, in the order they came. */
  readonly written: { readonly tool: string; readonly text: string }[] = [];
  schedulers: ReadonlySet<string> = new Set(['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'sh', 'dh', 'sed', 'nq', 'mh']);
  /** Programs that are not on this machine. */
  readonly missing = new Set<string>();
  hasIpvs = true;
  hasDummy = true;
  readonly parameters = new Map<string, string>();
  timeouts = '900 120 300';
  hasIpv6 = true;
  /** Lines that the kernel does not take, for a reason of its own. */
  refuses: RegExp | undefined;
  reads = 0;
  /** Virtual servers of firewall marks, each with one real server: somebody else's. */
  marks = 0;
  /** Virtual servers that were listed, one by one. */
  readonly listed: ServerKey[] = [];
  /** How often all virtual and real servers were read. */
  tables = 0;

  constructor(local: readonly Ip[] = []) {
    this.local = [...local];
  }

  async run(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    if (this.missing.has(file)) return result(-1, '', '', true);
    const input = options.input === undefined ? '' : String(options.input);
    switch (file) {
      case 'ipvsadm':
        return this.#ipvsadm(args, input);
      case 'ipset':
        return this.#ipset(args, input);
      case 'ip':
        return this.#ip(args, input);
      case 'cat':
        return this.#cat(args);
      case 'wc':
        return result(0, `${this.#proc().split('\n').length - 1} ${args.at(-1)}\n`);
      case 'conntrack':
        this.written.push({ tool: 'conntrack', text: args.join(' ') });
        return result(0);
      case 'uname':
        return result(0, '6.1.0-56-cloud-amd64\n');
      case 'modprobe':
        return result(this.hasIpvs ? 0 : 1);
      case 'sh':
        return this.#parameters(args.slice(3));
      default:
        return this.#runIptables(file, args, options);
    }
  }

  async #runIptables(file: string, args: readonly string[], options: ExecOptions): Promise<ExecResult> {
    const lines = String(options.input ?? '').split('\n');
    const at = lines.findIndex((line) => {
      const set = / --match-set (\S+)/.exec(line)?.[1];
      return set !== undefined && !this.sets.has(set);
    });
    if (at >= 0) return result(2, '', `Set doesn't exist.\nError occurred at line: ${at + 1}\n`);
    const before = this.iptables.restored.length;
    const done = await this.iptables.run(file, args, options);
    for (const { text } of this.iptables.restored.slice(before)) this.written.push({ tool: file, text });
    return done;
  }

  #ipvsadm(args: readonly string[], input: string): ExecResult {
    if (args[0] === '--version') return result(0, 'ipvsadm v1.31\n');
    if (!this.hasIpvs) return result(255, '', "Can't initialize ipvs: Protocol not available\n");
    if (args[0] === '--save') {
      this.reads++;
      return result(0, this.#save());
    }
    if (args[0] === '--set') {
      this.timeouts = args.slice(1).join(' ');
      return result(0);
    }
    if (args[0] !== '--restore') return this.#ipvsadmLine(args.join(' '));
    if (/^-[^L]/m.test(input)) this.written.push({ tool: 'ipvsadm', text: input });
    // It goes on after an error, and ends with what became of the last line; but for one that lists what is not there.
    let stdout = '';
    let stderr = '';
    let last = 0;
    for (const line of input.split('\n')) {
      if (line === '') continue;
      if (line.startsWith('-L ')) {
        const listed = this.#listing(line);
        if (listed === undefined) return result(1, stdout, `${stderr}No such service\n`);
        stdout += listed;
        continue;
      }
      const done = this.#ipvsadmLine(line);
      stderr += done.stderr;
      last = done.exitCode;
    }
    return result(last, stdout, stderr);
  }

  #listing(line: string): string | undefined {
    const match = /^-L -n (\S+) (\S+)$/.exec(line);
    const protocol = PROTOCOLS.get(match?.[1] ?? '');
    const server = this.servers.get(`${protocol} ${match?.[2]}`);
    if (!server) return undefined;
    this.listed.push(`${protocol} ${match?.[2]}`);
    const reals = [...server.reals].map(([real, { options, connections }]) => {
      return `  -> ${real.padEnd(28)} Masq    ${(options.split(' ').at(-1) ?? '').padEnd(6)} ${connections}          0         \n`;
    });
    return `Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n${protocol}  ${match?.[2]} ${server.options.split(' ')[1]}\n${reals.join('')}`;
  }

  #ipvsadmLine(line: string): ExecResult {
    try {
      if (this.refuses?.test(line)) throw new LineError('Memory allocation problem');
      this.#server(line);
      return result(0);
    } catch (error) {
      if (error instanceof LineError) return result(255, '', `${error.message}\n`);
      throw error;
    }
  }

  #server(line: string): void {
    const match = /^-([AEDaed]) (\S+) (\S+)(?: (.*))?$/.exec(line);
    const protocol = PROTOCOLS.get(match?.[2] ?? '');
    if (!match || protocol === undefined) throw new LineError(`Try \`ipvsadm -h' for more information: ${line}`);
    const [, verb = '', , place = '', rest = ''] = match;
    const key = `${protocol} ${place}`;
    const server = this.servers.get(key);
    if ('AE'.includes(verb)) {
      if (!SERVER_OPTIONS.test(rest)) throw new LineError(`illegal options: ${line}`);
      if (!this.schedulers.has(rest.split(' ')[1] ?? '')) {
        throw new LineError('Scheduler or persistence engine not found');
      }
      if (verb === 'A' && server) throw new LineError('Service already exists');
      if (verb === 'E' && !server) throw new LineError('No such service');
      if (server) server.options = rest;
      else this.servers.set(key, { options: rest, reals: new Map() });
      return;
    }
    if (!server) throw new LineError(verb === 'a' ? 'Service not defined' : 'No such service');
    if (verb === 'D') {
      this.servers.delete(key);
      return;
    }
    this.#real(server, verb, rest, line);
  }

  #real(server: FakeServer, verb: string, rest: string, line: string): void {
    const match = /^-r (\S+)(?: (.*))?$/.exec(rest);
    const real = match?.[1] ?? '';
    const options = match?.[2] ?? '';
    const known = server.reals.get(real);
    if (!match) throw new LineError(`no real server: ${line}`);
    if (verb === 'a' && known) throw new LineError('Destination already exists');
    if (verb !== 'a' && !known) throw new LineError('No such destination');
    if (verb === 'd') {
      if (options !== '') throw new LineError(`illegal options: ${line}`);
      server.reals.delete(real);
      return;
    }
    if (!REAL_OPTIONS.test(options)) throw new LineError(`illegal options: ${line}`);
    if (known) known.options = options;
    else server.reals.set(real, { options, connections: 0 });
  }

  #save(): string {
    let text = '';
    for (const [key, { options, reals }] of this.servers) {
      const words = wordsOf(key);
      text += `-A ${words} ${options}\n`;
      for (const [real, { options: own }] of reals) text += `-a ${words} -r ${real} ${own}\n`;
    }
    for (let mark = 1; mark <= this.marks; mark++)
      text += `-A -f ${mark} -s rr\n-a -f ${mark} -r 10.0.0.9:80 -m -w 1\n`;
    return text;
  }

  #ipset(args: readonly string[], input: string): ExecResult {
    const [verb] = args.filter((word) => word !== '-exist');
    if (verb === '--version') return result(0, 'ipset v7.17, protocol version: 7\n');
    if (verb === 'save') {
      this.reads++;
      return result(0, saveSets(this.sets));
    }
    if (verb === 'list') {
      return result(0, args.includes('-name') ? [...this.sets.keys()].join('\n') : terse(this.sets));
    }
    if (verb === 'destroy') return this.sets.delete(args.at(-1) ?? '') ? result(0) : result(1, '', 'no such set\n');
    if (verb !== 'restore') return result(2, '', `ipset: unknown ${verb}\n`);
    this.written.push({ tool: 'ipset', text: input });
    for (const [index, line] of input.split('\n').entries()) {
      if (line === '') continue;
      try {
        if (this.refuses?.test(line)) throw new LineError('Kernel error received: Invalid argument');
        restoreLine(this.sets, line, args.includes('-exist'), (name) => this.#isAsked(name));
      } catch (error) {
        if (error instanceof LineError)
          return result(1, '', `ipset v7.17: Error in line ${index + 1}: ${error.message}\n`);
        throw error;
      }
    }
    return result(0);
  }

  /** Whether a rule asks the set. */
  #isAsked(name: string): boolean {
    return ([4, 6] as const).some((family) =>
      Object.values(this.iptables.tables[family]).some((table) =>
        [...table.values()].some((rules) =>
          rules.some(({ rule }) => rule.matches.some((match) => match.kind === 'set' && match.name === name)),
        ),
      ),
    );
  }

  #ip(args: readonly string[], input: string): ExecResult {
    const words = args.join(' ');
    if (words === '-V') return result(0, 'ip utility, iproute2-6.1.0\n');
    if (words === '-json address show') {
      this.reads++;
      return result(0, this.#addressJson());
    }
    if (words === '-brief address show') return result(0, this.#addressLines());
    if (words === '-force -batch -') {
      this.written.push({ tool: 'ip', text: input });
      return this.#batch(input);
    }
    const [, verb = '', name = ''] = args;
    if (args[0] !== 'link') return result(2, '', `ip: unknown ${words}\n`);
    if (verb === 'add') {
      if (!this.hasDummy) return result(2, '', 'Error: Unknown device type.\n');
      if (name === LINK && this.link) return result(2, '', 'RTNETLINK answers: File exists\n');
      if (name === LINK) this.link = new Set();
      return result(0);
    }
    if (name === LINK && !this.link) return result(1, '', `Device "${LINK}" does not exist.\n`);
    if (verb === 'delete' && name === LINK) this.link = undefined;
    return result(0);
  }

  #batch(input: string): ExecResult {
    let stderr = '';
    for (const [index, line] of input.split('\n').entries()) {
      if (line === '') continue;
      const match = /^addr (add|del) (\S+)\/(32|128) dev (\S+)$/.exec(line);
      const ip = parseIp(match?.[2] ?? '');
      if (this.refuses?.test(line)) stderr += `RTNETLINK answers: Invalid argument\nCommand failed -:${index + 1}\n`;
      else if (!match || !ip || match[4] !== LINK || !this.link)
        stderr += `Error: ${line}\nCommand failed -:${index + 1}\n`;
      else if (match[1] === 'add') this.link.add(ip);
      else if (!this.link.delete(ip)) stderr += `RTNETLINK answers: Cannot assign requested address\n`;
    }
    return result(stderr === '' ? 0 : 1, '', stderr);
  }

  #addressJson(): string {
    const link = (ifname: string, ips: Iterable<Ip>): unknown => ({
      ifname,
      addr_info: [...ips].map((local) => ({ local, scope: 'global' })),
    });
    const links = [link('lo', ['127.0.0.1' as Ip, '::1' as Ip]), link('eth0', this.local)];
    if (this.dummy.length > 0) links.push(link('dummy0', this.dummy));
    return JSON.stringify(this.link ? [...links, link(LINK, this.link)] : links);
  }

  #addressLines(): string {
    const line = (name: string, state: string, ips: Iterable<Ip>): string => {
      const words = [...ips].map((ip) => `${ip}/${ip.includes(':') ? 128 : 32} `);
      return `${name.padEnd(16)} ${state.padEnd(14)} ${words.join('')}\n`;
    };
    const links =
      line('lo', 'UNKNOWN', ['127.0.0.1' as Ip, '::1' as Ip]) +
      line('eth0@if5', 'UP', this.local) +
      (this.dummy.length > 0 ? line('dummy0', 'UNKNOWN', this.dummy) : '');
    return this.link ? links + line(LINK, 'DOWN', this.link) : links;
  }

  #cat(args: readonly string[]): ExecResult {
    const [path] = args;
    if (path === '/proc/net/ip_vs_stats') return result(this.hasIpvs ? 0 : 1);
    if (path?.endsWith('/disable_ipv6')) return result(0, this.hasIpv6 ? '0\n' : '1\n');
    if (path === '/proc/net/ip_vs') {
      this.tables++;
      return result(0, this.#proc());
    }
    if (path === '/proc/net/ip_vs_conn') return result(0, this.#connections());
    return result(1, '', `cat: ${path}: No such file or directory\n`);
  }

  #connections(): string {
    let text = 'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n';
    for (const [key, states] of this.ending) {
      const place = hexPlace(key.split(' ')[1] ?? '').replace(':', ' ');
      for (const state of states) text += `TCP C6336402 9198 ${place} 0A000001 0050 ${state.padEnd(11)}      58\n`;
    }
    return text;
  }

  #proc(): string {
    let text =
      'IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n';
    for (const [key, { options, reals }] of this.servers) {
      const [protocol = '', place = ''] = key.split(' ');
      text += `${protocol}  ${hexPlace(place)} ${options.split(' ')[1]} \n`;
      for (const [real, { options: own, connections }] of reals) {
        const inactive = this.ending.get(key)?.length ?? 0;
        text += `  -> ${hexPlace(real)}      Masq    ${own.split(' ').at(-1)}      ${connections}          ${inactive}\n`;
      }
    }
    for (let mark = 1; mark <= this.marks; mark++) {
      text += `FWM  ${mark.toString(16).padStart(8, '0')} rr \n  -> 0A000009:0050      Masq    1      0          0\n`;
    }
    return text;
  }

  #parameters(words: readonly string[]): ExecResult {
    let text = '';
    for (let at = 0; at < words.length; at += 2) {
      const path = words[at] ?? '';
      const value = words[at + 1] ?? '';
      text += `${this.parameters.get(path) ?? '0'} ${value}\n`;
      this.parameters.set(path, value);
    }
    return result(0, text);
  }
}

function wordsOf(key: ServerKey): string {
  const [protocol = '', place = ''] = key.split(' ');
  const option = [...PROTOCOLS].find(([, name]) => name === protocol)?.[0] ?? '';
  return `${option} ${place}`;
}

function hexPlace(place: string): string {
  const colon = place.lastIndexOf(':');
  const ip = parseIp(place.slice(0, colon).replaceAll(/[[\]]/g, ''));
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  const port = Number(place.slice(colon + 1))
    .toString(16)
    .padStart(4, '0')
    .toUpperCase();
  if (ip === undefined) throw new Error(`no place: ${place}`);
  const text = hex(ipBytes(ip));
  return ip.includes(':') ? `[${text.match(/.{4}/g)?.join(':') ?? ''}]:${port}` : `${text.toUpperCase()}:${port}`;
}

const IP = '[0-9a-f.:]+';
const PLACE = `${IP},(tcp|udp|sctp):[0-9]+`;
const ENTRIES = new Map([
  ['hash:ip', new RegExp(`^${IP}$`)],
  ['hash:ip,port', new RegExp(`^${PLACE}$`)],
  ['hash:ip,port,ip', new RegExp(`^${PLACE},${IP}$`)],
  ['hash:ip,port,net', new RegExp(`^${PLACE},${IP}(/[1-9][0-9]*)?$`)],
  ['bitmap:port', /^[0-9]{1,5}$/],
]);

function restoreLine(
  sets: Map<string, FakeSet>,
  line: string,
  exist: boolean,
  isAsked: (name: string) => boolean,
): void {
  const [verb = '', name = '', word = ''] = line.split(' ');
  const set = sets.get(name);
  if (verb === 'create') {
    const match = /^create \S{1,31} (\S+) (?:range 0-65535|family (inet6?) hashsize [0-9]+ maxelem ([0-9]+))$/.exec(
      line,
    );
    if (!match || !ENTRIES.has(word)) throw new LineError(`Syntax error: ${line}`);
    if (set) {
      if (exist && set.type === word && set.capacity === Number(match[3] ?? 65_536)) return;
      throw new LineError('Set cannot be created: set with the same name already exists');
    }
    const entries = new Set<string>();
    sets.set(name, { type: word, family: match[2] ?? '', capacity: Number(match[3] ?? 65_536), entries });
    return;
  }
  if (!set) throw new LineError('The set with the given name does not exist');
  if (verb === 'destroy') {
    if (isAsked(name)) throw new LineError('Set cannot be destroyed: it is in use by a kernel component');
    sets.delete(name);
  } else if (verb === 'swap') {
    const other = sets.get(word);
    if (!other || other.type !== set.type) throw new LineError('Sets cannot be swapped');
    sets.set(name, other).set(word, set);
  } else if (verb === 'add') addEntry(set, word, exist);
  else if (verb === 'del') {
    if (!set.entries.delete(word) && !exist) throw new LineError('Element cannot be deleted: it is not added');
  } else throw new LineError(`Syntax error: ${line}`);
}

function addEntry(set: FakeSet, entry: string, exist: boolean): void {
  if (!ENTRIES.get(set.type)?.test(entry)) throw new LineError(`Syntax error: ${entry}`);
  const isSix = entry.replace(/,(tcp|udp|sctp):[0-9]+/, '').includes(':');
  if (set.family !== '' && isSix !== (set.family === 'inet6'))
    throw new LineError(`address of the other family: ${entry}`);
  if (set.entries.has(entry) && !exist) throw new LineError("Element cannot be added to the set: it's already added");
  if (set.entries.size >= set.capacity && !set.entries.has(entry)) throw new LineError('Hash is full');
  set.entries.add(entry);
}

function headerOf({ type, family, capacity }: FakeSet): string {
  return type === 'bitmap:port' ? 'range 0-65535' : `family ${family} hashsize 1024 maxelem ${capacity} bucketsize 12`;
}

function saveSets(sets: ReadonlyMap<string, FakeSet>): string {
  let text = '';
  for (const [name, set] of sets) {
    text += `create ${name} ${set.type} ${headerOf(set)}\n`;
    for (const entry of [...set.entries].sort()) text += `add ${name} ${entry}\n`;
  }
  return text;
}

function terse(sets: ReadonlyMap<string, FakeSet>): string {
  return [...sets]
    .map(
      ([name, set]) =>
        `Name: ${name}\nType: ${set.type}\nHeader: ${headerOf(set)}\nNumber of entries: ${set.entries.size}\n`,
    )
    .join('\n');
}

function result(exitCode: number, stdout = '', stderr = '', notFound = false): ExecResult {
  return { exitCode, stdout, stderr, notFound, timedOut: false };
}
