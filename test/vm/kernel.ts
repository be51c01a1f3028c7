// Debian's kernel for machines in clouds: small, with IPVS and SCTP. It is unpacked from its package, not installed.

import { createHash } from 'node:crypto';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { cached } from './cache.ts';
import { command } from './command.ts';

export interface Kernel {
  /** As `uname -r` says it. */
  readonly release: string;
  readonly image: string;
  /** Holds `lib/modules/RELEASE`. */
  readonly root: string;
}

/** Fetches the newest one that apt knows, or takes it from the cache. Throws when apt cannot, also after an update of its lists where that may be done. */
export function fetchKernel(): Kernel {
  try {
    return fetchKnown();
  } catch (error) {
    if (process.getuid?.() !== 0) throw error;
    // No lists yet; or old ones, which name a package that the archive has replaced.
    command('apt-get', ['-qq', 'update']);
    return fetchKnown();
  }
}

function fetchKnown(): Kernel {
  const depends = command('apt-cache', ['depends', 'linux-image-cloud-amd64']);
  const name = /Depends: (linux-image-\S+-cloud-amd64)/.exec(depends)?.[1];
  if (name === undefined) throw new Error('apt knows no linux-image-cloud-amd64: apt-get update');
  const version = /Version: (\S+)/.exec(command('apt-cache', ['show', '--no-all-versions', name]))?.[1] ?? '';
  const key = createHash('sha256').update(`${name} ${version}`).digest('hex').slice(0, 16);
  const root = cached('kernel', key, (dir) => {
    command('apt-get', ['-qq', 'download', name], { cwd: dir });
    const [file] = globSync('*.deb', { cwd: dir });
    if (file === undefined) throw new Error(`apt-get download ${name} left no file`);
    command('dpkg-deb', ['-x', file, '.'], { cwd: dir });
    command('rm', ['-f', file], { cwd: dir });
  });
  const release = name.replace('linux-image-', '');
  return { release, image: join(root, 'boot', `vmlinuz-${release}`), root };
}
