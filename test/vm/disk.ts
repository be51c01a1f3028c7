// The disks of the machine, made as files with no mount and no root: a base with Node, the dependencies, the kernel's modules and the tools
// of this host, kept for later runs; and the sources, made for each.

import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toolPath } from '../support/debian-tools.ts';
import { cached } from './cache.ts';
import { command } from './command.ts';
import type { Kernel } from './kernel.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Programs of this host that the machine has, too, with the libraries that they need. */
const PROGRAMS = [
  'dash',
  'date',
  'nft',
  'ipset',
  'ipvsadm',
  'conntrack',
  'ip',
  'ss',
  'sysctl',
  'perl',
  'kmod',
  'nc',
  'curl',
  'openssl',
];
/** What those names lead to: kmod is all of these. */
const KMOD_NAMES = ['modprobe', 'lsmod', 'rmmod', 'insmod', 'depmod', 'modinfo'];
/** Files that programs look for when they run. */
const FILES = ['/etc/services', '/etc/protocols', '/etc/iproute2', '/usr/lib/*/xtables', '/usr/lib/*/perl-base'];
/** Dependencies that no test in the machine needs; they are most of the weight. */
const NOT_NEEDED =
  /^(node|typescript|knip|oxlint|oxlint-tsgolint|oxfmt|oxc-parser|zod|@typescript|@oxlint|@oxlint-tsgolint|@oxfmt|@oxc-.*|@kubernetes|bare-.*|\..*)$/;
const MODULE_FOLDERS = [
  'net',
  'lib',
  'crypto',
  'arch',
  'drivers/net',
  'drivers/virtio',
  'drivers/block',
  'drivers/char',
];
/** What the kernel needs to see the disks and the ports, in the order of their dependence. */
const BOOT_MODULES = [
  'drivers/virtio/virtio_ring.ko',
  'drivers/virtio/virtio.ko',
  'drivers/virtio/virtio_pci_legacy_dev.ko',
  'drivers/virtio/virtio_pci_modern_dev.ko',
  'drivers/virtio/virtio_pci.ko',
  'drivers/block/virtio_blk.ko',
  'drivers/char/virtio_console.ko',
];

export interface Disks {
  readonly base: string;
  readonly initramfs: string;
}

/** The base disk and the initramfs, from the cache when nothing that is in them has changed. */
export function baseDisks(kernel: Kernel): Disks {
  const programs = [...PROGRAMS, ...xtablesPrograms()].flatMap((name) => toolPath(name) ?? []);
  const parts = [
    kernel.root,
    readFileSync(fileURLToPath(import.meta.url), 'utf8'),
    readFileSync(join(ROOT, 'package-lock.json'), 'utf8'),
    readFileSync(join(ROOT, 'test/vm/guest/boot.sh'), 'utf8'),
    ...[process.execPath, ...programs].map((path) => `${path} ${statSync(path).size} ${statSync(path).mtimeMs}`),
  ];
  const key = createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 16);
  const dir = cached('disk', key, (half) => {
    const tree = join(half, 'tree');
    layOut(tree, kernel, programs);
    makeDisk(tree, join(half, 'base.ext4'), '1500M');
    rmSync(tree, { recursive: true });
    makeInitramfs(kernel, join(half, 'initramfs'));
  });
  return { base: join(dir, 'base.ext4'), initramfs: join(dir, 'initramfs') };
}

/** A disk with the sources as they are now. `files` are added: name → text. */
export function sourceDisk(work: string, files: Readonly<Record<string, string>>): string {
  const tree = join(work, 'sources');
  mkdirSync(join(tree, 'node_modules'), { recursive: true });
  for (const name of ['src', 'test', 'deploy', 'package.json', 'tsconfig.json']) {
    cpSync(join(ROOT, name), join(tree, name), { recursive: true });
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(tree, name), text);
  const image = join(work, 'sources.ext4');
  makeDisk(tree, image, '128M');
  return image;
}

function makeDisk(tree: string, image: string, size: string): void {
  command('mkfs.ext4', ['-q', '-F', '-m', '0', '-O', '^has_journal', '-d', tree, image, size]);
}

/** Every name of the two families of iptables programs that this host has. */
function xtablesPrograms(): readonly string[] {
  const path = toolPath('iptables');
  return path === undefined ? [] : readdirSync(dirname(path)).filter((name) => /^(x|ip6?)tables(-[\w-]+)?$/.test(name));
}

function layOut(tree: string, kernel: Kernel, programs: readonly string[]): void {
  for (const dir of 'usr/bin usr/sbin usr/lib usr/lib64 etc dev proc sys tmp run root var fairlead'.split(' ')) {
    mkdirSync(join(tree, dir), { recursive: true });
  }
  for (const dir of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${dir}`, join(tree, dir));
  for (const path of programs) copyProgram(tree, path, join(underUsr(dirname(path)), basename(path)));
  copyProgram(tree, process.execPath, '/usr/bin/node');
  // Not busybox's shell: it prefers its own small `ip` to the real one.
  symlinkSync('dash', join(tree, 'usr/bin/sh'));
  for (const name of KMOD_NAMES) symlinkSync('/usr/bin/kmod', join(tree, 'usr/sbin', name));
  for (const path of FILES.flatMap((pattern) => globSync(pattern))) copyWithLibraries(tree, path);
  layOutBusybox(tree);
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n');
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  writeFileSync(join(tree, 'etc/hosts'), '127.0.0.1 localhost fairlead-vm\n::1 localhost\n');
  writeFileSync(join(tree, 'etc/nsswitch.conf'), 'hosts: files\nservices: files\nprotocols: files\n');
  layOutModules(tree, kernel);
  cpSync(realpathSync(join(ROOT, 'node_modules')), join(tree, 'node_modules'), {
    recursive: true,
    filter: (source) => !NOT_NEEDED.test(source.split('/node_modules/').slice(1).join('/')),
  });
  for (const file of globSync(join(tree, 'node_modules/**/*.node'))) copyLibraries(tree, file);
}

/** Shell and small tools, wherever the host's own program is not there already. */
function layOutBusybox(tree: string): void {
  const busybox = toolPath('busybox') ?? '';
  copyFileSync(busybox, join(tree, 'usr/bin/busybox'));
  chmodSync(join(tree, 'usr/bin/busybox'), 0o755);
  for (const name of command(busybox, ['--list']).trim().split('\n')) {
    const taken = ['usr/bin', 'usr/sbin'].some((dir) => lstatSync(join(tree, dir, name), { throwIfNoEntry: false }));
    if (!taken) symlinkSync('/usr/bin/busybox', join(tree, 'usr/bin', name));
  }
}

function layOutModules(tree: string, kernel: Kernel): void {
  const from = join(kernel.root, 'lib/modules', kernel.release);
  const to = join(tree, 'usr/lib/modules', kernel.release);
  for (const folder of MODULE_FOLDERS)
    cpSync(join(from, 'kernel', folder), join(to, 'kernel', folder), { recursive: true });
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']) {
    if (existsSync(join(from, name))) cpSync(join(from, name), join(to, name));
  }
  command(toolPath('depmod') ?? 'depmod', ['-b', tree, kernel.release]);
}

/** Debian has merged /bin into /usr/bin, and so on; hosts that came to it later still have both names. */
function underUsr(path: string): string {
  return path.startsWith('/usr/') ? path : `/usr${path}`;
}

/** Copies what the name leads to. A name of a program with many (xtables-nft-multi) is its own copy of none: it stays a link. */
function copyProgram(tree: string, path: string, as: string): void {
  const real = realpathSync(path);
  const target = join(tree, as);
  if (lstatSync(target, { throwIfNoEntry: false })) return;
  if (basename(real) !== basename(as) && real.endsWith('multi')) {
    copyProgram(tree, real, underUsr(real));
    symlinkSync(underUsr(real), target);
    return;
  }
  copyFileSync(real, target);
  chmodSync(target, 0o755);
  copyLibraries(tree, real);
}

function copyWithLibraries(tree: string, path: string): void {
  cpSync(path, join(tree, path), { recursive: true, dereference: true });
  for (const library of globSync(`${path}/**/*.so`)) copyLibraries(tree, library);
}

function copyLibraries(tree: string, path: string): void {
  let text: string;
  try {
    text = command('ldd', [path]);
  } catch {
    return; // A script, or linked statically.
  }
  for (const [, library = ''] of text.matchAll(/(?:=> )?(\/\S+) \(0x/g)) {
    const target = join(tree, underUsr(library));
    if (existsSync(target)) continue;
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(realpathSync(library), target);
    chmodSync(target, 0o755);
  }
}

function makeInitramfs(kernel: Kernel, file: string): void {
  const tree = `${file}.tree`;
  mkdirSync(join(tree, 'bin'), { recursive: true });
  mkdirSync(join(tree, 'modules'));
  copyFileSync(toolPath('busybox') ?? '', join(tree, 'bin/busybox'));
  chmodSync(join(tree, 'bin/busybox'), 0o755);
  const from = join(kernel.root, 'lib/modules', kernel.release, 'kernel');
  for (const name of BOOT_MODULES) copyFileSync(join(from, name), join(tree, 'modules', basename(name)));
  writeFileSync(join(tree, 'modules/order'), `${BOOT_MODULES.map((name) => basename(name)).join('\n')}\n`);
  copyFileSync(join(ROOT, 'test/vm/guest/boot.sh'), join(tree, 'init'));
  chmodSync(join(tree, 'init'), 0o755);
  command('sh', ['-c', `cd "$1" && find . | busybox cpio -o -H newc > "$2"`, 'sh', tree, file]);
  rmSync(tree, { recursive: true });
}
