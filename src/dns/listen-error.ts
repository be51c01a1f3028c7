// An address that cannot be listened on, and what to do about it.

import { hostPort } from '../lib/ip.ts';
import type { BoundAddress } from './listener.ts';

export type DnsListenCode = 'port-in-use' | 'no-privilege' | 'address-not-here' | 'listen-failed';

/** The message says which address, why, and the mend. */
export class DnsListenError extends Error {
  readonly code: DnsListenCode;
  readonly at: BoundAddress;

  constructor(at: BoundAddress, cause: NodeJS.ErrnoException) {
    const { code, why } = explain(at, cause);
    super(`cannot listen for DNS on ${hostPort(at.address, at.port)} (${at.protocol}): ${why}`, { cause });
    this.name = 'DnsListenError';
    this.code = code;
    this.at = at;
  }
}

function explain(at: BoundAddress, cause: NodeJS.ErrnoException): { code: DnsListenCode; why: string } {
  switch (cause.code) {
    case 'EADDRINUSE':
      return {
        code: 'port-in-use',
        why: `another program uses that port; end it (ss -lnp 'sport = :${at.port}' names it) or choose another address or port`,
      };
    case 'EACCES':
      return {
        code: 'no-privilege',
        why: 'ports below 1024 need a privilege; run as root, grant CAP_NET_BIND_SERVICE, or choose a port from 1024 on',
      };
    case 'EADDRNOTAVAIL':
      return {
        code: 'address-not-here',
        why: 'this machine does not have that address; add it to an interface or listen on one that `ip address` shows',
      };
    default:
      return { code: 'listen-failed', why: cause.message };
  }
}
