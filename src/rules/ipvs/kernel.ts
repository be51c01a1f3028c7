// The tools of the IPVS mode, each started once for all that it has to do. What a tool says is an error, whatever code it ends with: `ipvsadm
// --restore` goes on after a line that fails, and ends with what became of the last.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { SavedState } from '../iptables/parse.ts';
import { renderRestore, type Restore } from '../iptables/render.ts';
import { programOf, type IptablesTool } from '../iptables/tool.ts';
import { parseChains } from './chains.ts';
import { LINK, type ServerKey } from './names.ts';
import {
  parseAddresses,
  parseConnections,
  parseListing,
  parseServers,
  parseSets,
  type Connections,
  type SavedAddresses,
  type SavedServer,
  type SavedSet,
} from './parse.ts';
import { serverWords } from './render.ts';

const TABLE = '/proc/net/ip_vs';
const CONNECTIONS = '/proc/net/ip_vs_conn';
const TIMEOUT_MS = 300_000;
/** Of what a tool says, that much goes to the log. */
const MESSAGE_LENGTH = 600;

/** A tool did not do what it was told. */
export class ToolError extends Error {
  readonly code = 'tool-refused';
  readonly families: readonly IpFamily[];
  readonly tool: string;
  /** Something of what it read was not taken, `line` where it says which; undefined where it could not do its work at all. */
  readonly refused: { readonly line: string | undefined } | undefined;

  constructor(
    tool: string,
    message: string,
    families: readonly IpFamily[] = [4, 6],
    refused?: { readonly line: string | undefined },
  ) {
    super(message);
    this.tool = tool;
    this.families = families;
    this.refused = refused;
  }
}

/** Everything of this mode that the kernel holds, and what is beside it. */
export interface Saved {
  readonly addresses: SavedAddresses;
  readonly sets: ReadonlyMap<string, SavedSet>;
  readonly servers: ReadonlyMap<ServerKey, SavedServer>;
  readonly chains: ReadonlyMap<IpFamily, SavedState>;
}

export class IpvsKernel {
  readonly #exec: Exec;

  constructor(exec: Exec) {
    this.#exec = exec;
  }

  async read({ families, variant }: IptablesTool): Promise<Saved> {
    const addresses = await this.addresses();
    const sets = parseSets(await this.#say('ipset', ['save']));
    const servers = await this.servers();
    const chains = new Map<IpFamily, SavedState>();
    for (const family of families) {
      chains.set(family, parseChains(await this.#say(programOf(family, variant, '-save'), [], [family]), family));
    }
    return { addresses, sets, servers, chains };
  }

  async servers(): Promise<ReadonlyMap<ServerKey, SavedServer>> {
    return parseServers(await this.#say('ipvsadm', ['--save', '--numeric']));
  }

  async addresses(): Promise<SavedAddresses> {
    const text = await this.#say('ip', ['-json', 'address', 'show']);
    try {
      return parseAddresses(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new ToolError(
        'ip',
        `ip -json address show gives no JSON (iproute2 4.14 or newer is needed): ${error.message}`,
      );
    }
  }

  /** Whether addresses of IPv6 can be put on a new link. */
  async hasIpv6(): Promise<boolean> {
    const disabled = await this.#exec.run('cat', ['/proc/sys/net/ipv6/conf/default/disable_ipv6']);
    return disabled.stdout.trim() === '0';
  }

  /**
   * The real servers of these virtual servers with their connections. One run of the tool, which asks the kernel of each alone: the whole
   * table is read only where one of them is gone, since the tool then says nothing of those behind it.
   */
  async connectionsOf(keys: Iterable<ServerKey>): Promise<Connections> {
    const wanted = new Set(keys);
    const text = [...wanted].map((key) => `-L -n ${serverWords(key)}\n`).join('');
    try {
      return parseListing(await this.#say('ipvsadm', ['--restore'], [4, 6], text));
    } catch (error) {
      if (!(error instanceof ToolError) || error.refused === undefined) throw error;
      return parseConnections(await this.table(), wanted);
    }
  }

  /** Every virtual and real server with its connections, as the kernel shows them. */
  table(): Promise<string> {
    return this.#say('cat', [TABLE]);
  }

  /** Every connection, as the kernel shows them. */
  everyConnection(): Promise<string> {
    return this.#say('cat', [CONNECTIONS]);
  }

  /** How many lines the table has. */
  async tableLines(): Promise<number> {
    return Number.parseInt(await this.#say('wc', ['-l', TABLE]), 10);
  }

  /** A line for each link with its addresses: a tenth of what `addresses` reads. */
  brief(): Promise<string> {
    return this.#say('ip', ['-brief', 'address', 'show']);
  }

  /** The sets with the numbers of their entries. */
  setCounts(): Promise<string> {
    return this.#say('ipset', ['list', '-terse']);
  }

  /** An entry that is there already, or gone already, is as good. */
  async ipset(text: string): Promise<void> {
    if (text !== '') await this.#say('ipset', ['-exist', 'restore'], [4, 6], text);
  }

  async ipvsadm(text: string): Promise<void> {
    if (text !== '') await this.#say('ipvsadm', ['--restore'], [4, 6], text);
  }

  async timeouts(seconds: readonly number[]): Promise<void> {
    await this.#say('ipvsadm', ['--set', ...seconds.map(String)]);
  }

  async addLink(): Promise<void> {
    await this.#say('ip', ['link', 'add', LINK, 'type', 'dummy']);
  }

  async ip(text: string): Promise<void> {
    if (text !== '') await this.#say('ip', ['-force', '-batch', '-'], [4, 6], text);
  }

  async iptables(family: IpFamily, { variant }: IptablesTool, restore: Restore): Promise<void> {
    const text = renderRestore(restore);
    if (text === '') return;
    const args = ['-w', '5', '--noflush', '--counters'];
    await this.#say(programOf(family, variant, '-restore'), args, [family], text);
  }

  async #say(
    tool: string,
    args: readonly string[],
    families: readonly IpFamily[] = [4, 6],
    input?: string,
  ): Promise<string> {
    const options = { timeoutMs: TIMEOUT_MS, ...(input === undefined ? {} : { input }) };
    const result = await this.#exec.run(tool, args, options);
    if (input === undefined ? result.exitCode === 0 : isDone(result)) return result.stdout;
    const refused = input === undefined || result.notFound || result.timedOut ? undefined : refusedLine(input, result);
    throw new ToolError(tool, `${[tool, ...args].join(' ')}: ${message(result)}`, families, refused);
  }
}

/** `ip -force` and `ipvsadm --restore` go on after an error, and say what it was. What is as it was to be is none. */
function isDone({ exitCode, stderr }: ExecResult): boolean {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  return lines.every((line) => HARMLESS.test(line)) && (exitCode === 0 || lines.length > 0);
}

function refusedLine(input: string, { stderr }: ExecResult): { readonly line: string | undefined } {
  const number = Number(/Error in line ([0-9]+)/.exec(stderr)?.[1]);
  return { line: input.split('\n')[number - 1] };
}

const HARMLESS =
  /^(# )?Warning|File exists|already assigned|Address not found|Cannot assign requested address|^Command failed/;

function message(result: ExecResult): string {
  if (result.notFound) return 'it is not on this machine';
  if (result.timedOut) return `it did not end within ${TIMEOUT_MS / 1000} s`;
  const text = result.stderr.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return text === '' ? `it ended with code ${result.exitCode}` : text.slice(0, MESSAGE_LENGTH);
}
