// What one of our tables holds. Read at start, after a transaction that failed, and when somebody else changed it; never on the way of a sync.
// A few lines of Perl hand on what the kernel says; without Perl, nft lists the table, at twenty times the time and memory.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec, ExecResult } from '../../system/exec.ts';
import type { Follow } from '../../system/follow.ts';
import type { ElementId, ElementValue } from './contribution.ts';
import { CONTAINERS, TABLE, nftFamily } from './layout.ts';
import { READABLE, emptyDraft, readMessages, type TableDraft } from './netlink-message.ts';
import { parseTable, type TableState } from './parse.ts';

/**
 * AF_NETLINK 16, SOCK_RAW 3, NETLINK_NETFILTER 12. Each word behind family and table is a request by its number, and for elements the set. Prints
 * the messages of each read in hexadecimal behind a colon; `end` when all is told, `changed` when the kernel says that the table changed meanwhile
 * (NLM_F_DUMP_INTR 16), `error` with the errno it answers with.
 */
const SCRIPT = `
alarm 60;
my ($family, $table, @requests) = @ARGV;
sub attribute {
  my ($type, $text) = @_;
  my $data = "$text\\0";
  return pack("SS", 4 + length $data, $type) . $data . "\\0" x (-length($data) & 3);
}
socket(S, 16, 3, 12) or die "socket: $!";
bind(S, pack("SSLL", 16, 0, 0, 0)) or die "bind: $!";
for (@requests) {
  my ($number, $set) = split /=/;
  my $body = pack("CCn", $family, 0, 0) . attribute(1, $table) . (defined $set ? attribute(2, $set) : "");
  defined send(S, pack("LSSLL", 16 + length $body, 10 << 8 | $number, 0x301, 1, 0) . $body, 0) or die "send: $!";
  my $done = 0;
  until ($done) {
    defined recv(S, my $data, 1 << 16, 0) or die "recv: $!";
    my $at = 0;
    while ($at + 16 <= length $data) {
      my ($length, $type, $flags) = unpack("LSS", substr($data, $at, 8));
      if ($flags & 16) { print "changed\\n"; exit 0 }
      if ($type == 2) { print "error ", -unpack("l", substr($data, $at + 16, 4)), "\\n"; exit 0 }
      if ($type == 3) { $done = 1; last }
      $at += ($length + 3) & ~3;
    }
    print ":", unpack("H*", substr($data, 0, $at)), "\\n" if $at;
  }
}
print "end\\n";
`;

/** NFT_MSG_GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM. */
const REQUESTS = ['1', '4', '7', '10', ...READABLE.map((name) => `13=${name}`)];
const FAMILY_NUMBERS: Readonly<Record<IpFamily, number>> = { 4: 2, 6: 10 };
const INTERVALS = CONTAINERS.map(({ name }) => name).filter((name) => !READABLE.includes(name));
/** Somebody writes into the tables all the time: then nft tries its luck. */
const MOST_TRIES = 5;
/** ENOENT, for a table without one of our sets. */
const NOT_THERE = 2;

export interface ReadBackOptions {
  readonly exec: Exec;
  readonly follow: Follow | undefined;
  readonly timeoutMs: number;
}

export type ReadBack =
  | { readonly kind: 'found'; readonly table: TableState }
  | { readonly kind: 'missing' }
  | { readonly kind: 'failed'; readonly result: ExecResult };

/** Puts the table's elements into `elements`. Throws a SyntaxError or TypeError when nft writes what it never writes. */
export async function readBack(
  family: IpFamily,
  elements: Map<ElementId, ElementValue>,
  options: ReadBackOptions,
): Promise<ReadBack> {
  const answer = options.follow ? await askUntilWhole(family, options.follow) : 'unreadable';
  if (typeof answer === 'object') {
    if (!answer.found) return { kind: 'missing' };
    for (const [id, value] of answer.elements) elements.set(id, value);
    const problem = await readIntervals(family, elements, options);
    return problem ? { kind: 'failed', result: problem } : { kind: 'found', table: answer };
  }
  return readListing(family, elements, options);
}

async function readListing(
  family: IpFamily,
  elements: Map<ElementId, ElementValue>,
  options: ReadBackOptions,
): Promise<ReadBack> {
  const result = await list(['table', nftFamily(family), TABLE], options);
  if (result.exitCode === 0) return { kind: 'found', table: parseTable(result.stdout, family, elements) };
  return isMissing(result) ? { kind: 'missing' } : { kind: 'failed', result };
}

/** The sets of ranges, which are small. Returns what failed. */
async function readIntervals(
  family: IpFamily,
  elements: Map<ElementId, ElementValue>,
  options: ReadBackOptions,
): Promise<ExecResult | undefined> {
  for (const name of INTERVALS) {
    const result = await list(['set', nftFamily(family), TABLE, name], options);
    if (result.exitCode === 0) parseTable(result.stdout, family, elements);
    else if (!isMissing(result)) return result;
  }
  return undefined;
}

function list(what: readonly string[], { exec, timeoutMs }: ReadBackOptions): Promise<ExecResult> {
  return exec.run('nft', ['-j', 'list', ...what], { timeoutMs });
}

function isMissing({ stderr }: ExecResult): boolean {
  return stderr.includes('No such file or directory');
}

async function askUntilWhole(family: IpFamily, follow: Follow): Promise<TableDraft | 'changed' | 'unreadable'> {
  let answer = await ask(family, follow);
  for (let tries = 1; answer === 'changed' && tries < MOST_TRIES; tries++) answer = await ask(family, follow);
  return answer;
}

function ask(family: IpFamily, follow: Follow): Promise<TableDraft | 'changed' | 'unreadable'> {
  return new Promise((resolve) => {
    const draft = emptyDraft(family);
    let said = '';
    let readable = true;
    follow('perl', ['-e', SCRIPT, String(FAMILY_NUMBERS[family]), TABLE, ...REQUESTS], {
      onLine: (line) => {
        if (!line.startsWith(':')) said = line;
        else if (readable) readable = readLine(line.slice(1), draft);
      },
      onEnd: () => {
        if (said === 'changed') resolve('changed');
        // Without one of its sets the table is made anew, whatever else is in it.
        else if (readable && (said === 'end' || said === `error ${NOT_THERE}`)) resolve(draft);
        else resolve('unreadable');
      },
    });
  });
}

function readLine(hex: string, draft: TableDraft): boolean {
  try {
    readMessages(Buffer.from(hex, 'hex'), draft);
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}
