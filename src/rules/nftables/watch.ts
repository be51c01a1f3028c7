// Tells when somebody else changes our tables. `nft monitor` would do, but it first reads the whole ruleset into memory and keeps
// it there (521 MiB and 3.5 CPU seconds beside 250,000 endpoints, nft 1.0.6). So the kernel's notifications are read by a few
// lines of Perl, which is essential on Debian: 7 MiB at any size. Where there is none, tables and chains are looked at in turn.

import { backoffDelay } from '../../lib/backoff.ts';
import type { Clock, Timer } from '../../system/clock.ts';
import type { Exec } from '../../system/exec.ts';
import type { Follow, Followed } from '../../system/follow.ts';
import type { Logger } from '../../observe/log.ts';
import { listChains } from './chain-list.ts';
import { FAMILIES, TABLE, nftFamily } from './layout.ts';

/**
 * AF_NETLINK 16, SOCK_RAW 3, NETLINK_NETFILTER 12, group NFNLGRP_NFTABLES 7. Every message of a transaction has the table's name as its first
 * attribute; NFT_MSG_NEWGEN 15 ends the transaction. Prints `gen` for each one that touched a table of ours, `lost` when the
 * kernel had to leave notifications out, and what it is asked once everything that came before has been read: the kernel sends a
 * transaction's notifications before nft hears that it is done. SO_RCVBUFFORCE 33, SO_RCVBUF 8, MSG_DONTWAIT 64, EINTR 4, EAGAIN 11.
 */
const SCRIPT = `
$| = 1;
socket(S, 16, 3, 12) or die "socket: $!";
setsockopt(S, 1, 33, 8 << 20) or setsockopt(S, 1, 8, 8 << 20);
bind(S, pack("SSLL", 16, 0, 0, 1 << 6)) or die "bind: $!";
print "ready\\n";
my ($ours, $watched) = (0, "");
vec($watched, fileno(STDIN), 1) = 1;
vec($watched, fileno(S), 1) = 1;
while (1) {
  select(my $ready = $watched, undef, undef, undef) > 0 or next;
  my $asked = "";
  if (vec($ready, fileno(STDIN), 1)) { sysread(STDIN, $asked, 4096) or exit 0 }
  while (1) {
    my $data = "";
    unless (defined recv(S, $data, 1 << 20, 64)) {
      next if $! == 4;
      last if $! == 11;
      print "lost\\n";
      $ours = 0;
      next;
    }
    my $at = 0;
    while ($at + 20 <= length $data) {
      my ($length, $type) = unpack("LS", substr($data, $at, 6));
      last if $length < 20;
      if (($type & 255) == 15) { print "gen\\n" if $ours; $ours = 0 }
      elsif ($length >= 24) {
        my ($size, $attribute) = unpack("SS", substr($data, $at + 20, 4));
        $ours = 1 if $attribute == 1 && substr($data, $at + 24, $size - 4) eq "${TABLE}\\0";
      }
      $at += ($length + 3) & ~3;
    }
  }
  print $asked;
}
`;

const RESTART = { initial: 500, max: 60_000 };
const POLL_MS = 2000;
const LOOK_TIMEOUT_MS = 10_000;

export interface WatchOptions {
  readonly follow: Follow;
  readonly exec: Exec;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** Somebody else changed our tables, or may have. */
  readonly onDrift: (what: string) => void;
}

/** Lives as long as the backend: `begin` once the tables are as they should be, `pause` before a large load. */
export class TableWatch {
  readonly #options: WatchOptions;
  #wanted = false;
  #child: Followed | undefined;
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  /** A transaction of our own is under way. */
  #writing = false;
  /** Own transactions that ended, and transactions that the listener told of, since both were last known to be even. */
  #written = 0;
  #heard = 0;
  /** The newest question to the listener; it has told of everything before once it answers. */
  #asked = 0;
  #failures = 0;
  #said = false;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** From now on changes of others are told. What came between a pause and this is looked for once. */
  begin(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#start();
  }

  async pause(): Promise<void> {
    this.#wanted = false;
    this.#timer?.cancel();
    this.#written = 0;
    this.#heard = 0;
    const child = this.#child;
    this.#child = undefined;
    await child?.stop();
    await this.#looking;
  }

  /** To be called before a transaction of our own. */
  expect(): void {
    this.#writing = true;
  }

  /** To be called when that transaction has ended. */
  expected(applied: boolean): void {
    this.#writing = false;
    if (applied) this.#written++;
    this.#ask();
  }

  #ask(): void {
    this.#child?.send(String(++this.#asked));
  }

  #start(): void {
    this.#written = 0;
    this.#heard = 0;
    const child = this.#options.follow('perl', ['-e', SCRIPT], {
      onLine: (line) => {
        if (this.#child === child) this.#read(line);
      },
      onEnd: ({ notFound, stderr }) => {
        if (this.#child !== child || !this.#wanted) return;
        this.#child = undefined;
        if (!this.#said) {
          const why = notFound ? 'perl is not on this machine' : `its listener ended: ${stderr}`;
          this.#options.log.warn(
            `changes of others to the nftables rules cannot be followed (${why}); looking for missing tables and chains every ${POLL_MS / 1000} s instead`,
          );
        }
        this.#said = true;
        this.#lookAgain(notFound ? undefined : backoffDelay(RESTART, ++this.#failures, this.#options.random()));
      },
    });
    this.#child = child;
  }

  #read(line: string): void {
    const { onDrift } = this.#options;
    if (line === 'ready') {
      this.#failures = 0;
      // What ended before it listened it does not tell of.
      this.#written = 0;
      this.#ask();
      this.#look();
    } else if (line === 'lost') {
      onDrift('notifications were lost');
      this.#ask();
    } else if (line === 'gen') {
      this.#heard++;
      if (this.#heard <= this.#written + (this.#writing ? 1 : 0)) return;
      this.#heard--;
      onDrift('somebody else changed the nftables tables');
    } else if (line === String(this.#asked) && !this.#writing) {
      const others = this.#heard > this.#written;
      this.#written = 0;
      this.#heard = 0;
      if (others) onDrift('somebody else changed the nftables tables');
    }
  }

  /** Without a listener: a look now and then, until it can be started again. */
  #lookAgain(restartIn: number | undefined): void {
    const end = restartIn === undefined ? undefined : this.#options.clock.monotonic() + restartIn;
    const next = (): void => {
      this.#timer = this.#options.clock.after(POLL_MS, () => {
        if (!this.#wanted) return;
        if (end !== undefined && this.#options.clock.monotonic() >= end) {
          this.#start();
          return;
        }
        this.#look();
        next();
      });
    };
    next();
  }

  #look(): void {
    this.#looking ??= this.#lookOnce().finally(() => (this.#looking = undefined));
  }

  /** Whether tables and chains are there. */
  async #lookOnce(): Promise<void> {
    const { exec, onDrift } = this.#options;
    const before = this.#asked;
    const chains = await listChains(exec, LOOK_TIMEOUT_MS);
    // Tables that are being written are not missing.
    if (!chains || !this.#wanted || this.#writing || before !== this.#asked) return;
    const missing = FAMILIES.map((family) => `${nftFamily(family)} ${TABLE}`).filter(
      (table) => !chains.get(table)?.has('nat-postrouting'),
    );
    if (missing.length > 0) onDrift(`missing: table ${missing.join(', table ')}`);
  }
}
