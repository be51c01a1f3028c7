// The kernel's packet counters (nfnetlink_acct) that kube-proxy's rules count in, under its names: made before rules name them, and read beside the
// check for drift. Spoken to by a few lines of Perl, as the notifications of nftables are: the tool for it is in no usual image.

import type { Metrics } from '../../observe/metrics.ts';
import type { Exec } from '../../system/exec.ts';

/** Packets that KUBE-FORWARD dropped as none of a known connection. */
export const INVALID_DROPPED = 'ct_state_invalid_dropped_pkts';
/** First packets of connections to a NodePort on 127.0.0.1. */
export const LOCALHOST_ACCEPTED = 'localhost_nps_accepted_pkts';

const METRICS = [
  {
    counter: INVALID_DROPPED,
    name: 'kubeproxy_iptables_ct_state_invalid_dropped_packets_total',
    help: 'Packets that were dropped, as they belong to no connection that the kernel knows.',
  },
  {
    counter: LOCALHOST_ACCEPTED,
    name: 'kubeproxy_iptables_localhost_nodeports_accepted_packets_total',
    help: 'Packets that opened a connection to a NodePort on 127.0.0.1.',
  },
] as const;

/**
 * AF_NETLINK 16, SOCK_RAW 3, NETLINK_NETFILTER 12; subsystem NFNL_SUBSYS_ACCT 7: NFNL_MSG_ACCT_NEW 0, NFNL_MSG_ACCT_GET 1; attributes NFACCT_NAME 1 and
 * NFACCT_PKTS 2, a big-endian 64-bit number; NFNL_MSG_ACCT_DEL 3. EEXIST 17. Makes or deletes the counters that are named, or prints all there are.
 */
const SCRIPT = `
socket(S, 16, 3, 12) && bind(S, pack("SSLL", 16, 0, 0, 0)) or die "socket: $!";
sub ask {
  my ($type, $flags, $body) = @_;
  $body = pack("CCn", 0, 0, 0) . $body;
  send(S, pack("LSSLL", 16 + length $body, 0x700 | $type, $flags, 1, 0) . $body, 0, pack("SSLL", 16, 0, 0, 0)) or die "send: $!";
}
my $verb = shift;
for my $name (@ARGV) {
  my $attribute = pack("SS", 5 + length $name, 1) . $name . "\\0";
  ask($verb eq "make" ? (0, 0x605) : (3, 0x5), $attribute . "\\0" x (-length($attribute) & 3));
  recv(S, my $reply, 65536, 0);
  my $error = -unpack("l", substr($reply, 16, 4));
  if ($error && $error != 17) { $! = $error; die "$name: $!" }
}
exit 0 if @ARGV;
ask(1, 0x301, "");
while (defined recv(S, my $data, 65536, 0)) {
  for (my $at = 0; $at + 16 <= length $data;) {
    my ($length, $type) = unpack("LS", substr($data, $at, 6));
    exit 0 if $type == 2 || $type == 3 || $length < 16;
    my ($name, $packets) = ("", 0);
    for (my $i = $at + 20; $i + 4 <= $at + $length;) {
      my ($size, $kind) = unpack("SS", substr($data, $i, 4));
      last if $size < 4;
      my $value = substr($data, $i + 4, $size - 4);
      $name = unpack("Z*", $value) if ($kind & 0x3fff) == 1;
      $packets = unpack("Q>", $value) if ($kind & 0x3fff) == 2;
      $i += ($size + 3) & ~3;
    }
    print "$name $packets\\n";
    $at += ($length + 3) & ~3;
  }
}
`;
const NAMES = METRICS.map(({ counter }) => counter);
const TIMEOUT_MS = 10_000;

export class PacketAccounting {
  readonly #exec: Exec;
  readonly #packets = new Map<string, number>();
  #refused = false;
  #made = false;

  constructor(exec: Exec, metrics: Metrics) {
    this.#exec = exec;
    for (const { counter, name, help } of METRICS) {
      metrics.collected({
        name,
        help,
        type: 'counter',
        samples: () => [{ name, labels: {}, value: this.#packets.get(counter) ?? 0 }],
      });
    }
  }

  /** Makes the counters, where they are not there; false where this kernel has none, and rules must not name them. */
  async make(): Promise<boolean> {
    if (this.#refused) return false;
    const { exitCode } = await run(this.#exec, 'make', NAMES);
    return (this.#made = exitCode === 0);
  }

  get isRefused(): boolean {
    return this.#refused;
  }

  /** Whether the kernel does not take rules that name them. */
  refuse(refused: boolean): void {
    this.#refused = refused;
    this.#made = false;
  }

  async read(): Promise<void> {
    if (!this.#made) return;
    const { exitCode, stdout } = await run(this.#exec, 'read');
    if (exitCode !== 0) return;
    for (const line of stdout.split('\n')) {
      const [name = '', packets = ''] = line.split(' ');
      if (METRICS.some(({ counter }) => counter === name)) this.#packets.set(name, Number(packets));
    }
  }
}

/** Deletes the counters; those that rules of kube-proxy still name stay. */
export async function removeCounters(exec: Exec): Promise<void> {
  await Promise.all(NAMES.map((name) => run(exec, 'delete', [name])));
}

function run(
  exec: Exec,
  verb: 'make' | 'delete' | 'read',
  names: readonly string[] = [],
): Promise<{ readonly exitCode: number; readonly stdout: string }> {
  return exec.run('perl', ['-e', SCRIPT, verb, ...names], { timeoutMs: TIMEOUT_MS });
}

/** The match that counts, as `iptables-save` writes it. */
export function counted(counter: string): string {
  return `-m nfacct --nfacct-name  ${counter}`;
}
