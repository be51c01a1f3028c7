// How large the legacy tables are and where their hooks begin: what the kernel tells of a table without copying it (IPT_SO_GET_INFO). Whoever adds,
// deletes or flushes rules changes that. A question costs 10 ms of CPU at any size; having the tool look copies the table, 52 MB and 0.3 CPU seconds
// at 5,000 × 10.

import type { IpFamily } from '../../lib/ip.ts';
import type { Exec } from '../../system/exec.ts';
import { TABLES } from './names.ts';

/**
 * Perl has no getsockopt(2) whose buffer says what is asked for, so the system call is made by its number: those of 64-bit x86, ARM and RISC-V.
 * AF_INET 2, AF_INET6 10, SOCK_RAW 3, IPPROTO_RAW 255, SOL_IP 0, SOL_IPV6 41, IPT_SO_GET_INFO 64, struct ipt_getinfo of 84 bytes.
 */
const SCRIPT = `
require POSIX;
length(pack("L!", 0)) == 8 or exit 3;
my $call = {x86_64 => 55, aarch64 => 209, riscv64 => 209}->{(POSIX::uname())[4]} or exit 3;
for (@ARGV) {
  my ($family, $table) = split /:/;
  socket(my $s, $family, 3, 255) or exit 4;
  my ($info, $length) = (pack("a84", $table), pack("L", 84));
  syscall($call, fileno $s, $family == 2 ? 0 : 41, 64, $info, $length) == 0 or exit 5;
  print "$_ ", join(" ", unpack("x32 L13", $info)), "\\n";
}
`;

const FAMILY_NUMBERS: Readonly<Record<IpFamily, number>> = { 4: 2, 6: 10 };
const TIMEOUT_MS = 10_000;

/** The same text as long as nobody adds or deletes a rule in our tables; undefined where that cannot be told. */
export async function tableShape(exec: Exec, families: readonly IpFamily[]): Promise<string | undefined> {
  const tables = families.flatMap((family) => TABLES.map((table) => `${FAMILY_NUMBERS[family]}:${table}`));
  const said = await exec.run('perl', ['-e', SCRIPT, ...tables], { timeoutMs: TIMEOUT_MS });
  return said.exitCode === 0 ? said.stdout : undefined;
}
