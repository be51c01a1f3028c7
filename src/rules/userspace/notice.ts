// What a user is told of the Services that userspace cannot carry: one notice for each cause, with the mend. Pure.

import { parseCidr } from '../../lib/cidr.ts';
import { ipBytes, ipFamily, ipFromBytes, isLoopback, type Ip, type IpFamily } from '../../lib/ip.ts';
import type { ServicePortKey } from '../../model/snapshot.ts';
import type { Loop } from './loops.ts';
import type { Listener } from './plan.ts';

/** A listener that this machine does not let us have. */
export interface Unbound {
  readonly listener: Listener;
  /** Of the system: EADDRNOTAVAIL, EADDRINUSE, EACCES… */
  readonly code: string;
}

export type NoticeCause =
  | 'not-here'
  | 'not-here-external'
  | 'not-here-loopback'
  | 'no-stand-in'
  | 'no-right'
  | 'in-use'
  | 'descriptors'
  | 'other'
  | 'loop'
  | 'sctp'
  | 'files'
  | 'files-udp'
  | 'untold';

export interface Notice {
  readonly cause: NoticeCause;
  readonly message: string;
}

/** Names in one notice; the rest is counted, and `state` lists them all. */
const NAMED = 5;

/** `lacking`: families whose Service addresses are to be caught, but this machine has no address of its own to lead them to. */
export function unboundNotices(unbound: readonly Unbound[], lacking: ReadonlySet<IpFamily>): readonly Notice[] {
  const groups = new Map<NoticeCause, Unbound[]>();
  for (const item of unbound) {
    const cause = causeOf(item, lacking);
    const group = groups.get(cause);
    if (group) group.push(item);
    else groups.set(cause, [item]);
  }
  return [...groups].map(([cause, items]) => ({ cause, message: messageOf(cause, items) }));
}

export function sctpNotice(ports: readonly ServicePortKey[]): Notice | undefined {
  if (ports.length === 0) return undefined;
  const names = list(ports.map(servicePortName));
  return {
    cause: 'sctp',
    message: `userspace cannot carry SCTP: ${count(ports.length, 'Service port')} left out: ${names}. Mend: --mode nftables, as root`,
  };
}

export function loopNotice(loops: readonly Loop[]): Notice | undefined {
  if (loops.length === 0) return undefined;
  const names = list(loops.map(({ servicePort, listener }) => `${servicePortName(servicePort)} (${listener})`));
  return {
    cause: 'loop',
    message:
      `${count(loops.length, 'endpoint')} not used, as it is a Service address on which userspace itself listens, and connections would go round ` +
      `for ever: ${names}. Mend: give its EndpointSlice the address of the server itself`,
  };
}

/** More is asked for than `files` open files allow. */
export function filesNotice(what: 'connections' | 'flows', asked: number, allowed: number, files: number): Notice {
  const flag = what === 'connections' ? '--userspace-max-connections' : '--userspace-max-udp-flows';
  return {
    cause: what === 'connections' ? 'files' : 'files-udp',
    message:
      `${flag} ${asked} is more than this process may have: with ${files} files open at a time it carries ${allowed} at most. ` +
      `Mend: \`ulimit -n\`, or LimitNOFILE= of its unit, somewhat above ${what === 'connections' ? 'twice the connections' : 'three times the flows'}`,
  };
}

/** `missing`: names of Services that are to learn of their clients. */
export function untoldNotice(missing: readonly string[]): Notice | undefined {
  if (missing.length === 0) return undefined;
  return {
    cause: 'untold',
    message: `--userspace-proxy-protocol-to names what is no Service: ${list(missing)}. Mend: its namespace and name`,
  };
}

/** kube-proxy's name of a ServicePort, `ns/name:port`. */
export function servicePortName(key: ServicePortKey): string {
  return key.replace(/\/(TCP|UDP|SCTP)\/IPv[46]$/, '');
}

function causeOf({ listener, code }: Unbound, lacking: ReadonlySet<IpFamily>): NoticeCause {
  switch (code) {
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
      if (isLoopback(listener.address)) return 'not-here-loopback';
      if (listener.frontend.kind !== 'nodePort' && lacking.has(ipFamily(listener.address))) return 'no-stand-in';
      return listener.frontend.kind === 'clusterIP' ? 'not-here' : 'not-here-external';
    case 'EACCES':
    case 'EPERM':
      return 'no-right';
    case 'EADDRINUSE':
      return 'in-use';
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOBUFS':
      return 'descriptors';
    default:
      return 'other';
  }
}

function messageOf(cause: NoticeCause, items: readonly Unbound[]): string {
  const what = `cannot bind ${count(items.length, 'Service address', 'Service addresses')}`;
  const names = list(
    items.map(({ listener }) => `${servicePortName(listener.frontend.servicePort.key)} ${listener.key}`),
  );
  const addresses = items.map(({ listener }) => listener.address);
  switch (cause) {
    case 'not-here': {
      const ranges = rangesOf(addresses);
      const routes = ranges.map((range) => `\`ip route add local ${range} dev lo\``).join(' and ');
      return (
        `${what} of ${ranges.join(' and ')} (not on this machine): ${names}. Mend: --service-cluster-ip-range 127.96.0.0/16 ` +
        `with manifests that name no clusterIP, or as root --userspace-catch-addresses, ${routes} or --mode nftables`
      );
    }
    case 'not-here-external':
      return (
        `${what} outside the cluster range (not on this machine): ${names}. Mend, where clients here need them: ` +
        `\`ip addr add ${addresses[0] ?? 'ADDRESS'}/${addresses[0]?.includes(':') ? 128 : 32} dev lo\` and so on, --userspace-catch-addresses or --mode nftables, as root`
      );
    case 'not-here-loopback':
      return (
        `${what} of the loopback range: ${names}. Linux has all of 127.0.0.0/8; elsewhere each address has to be added. ` +
        `Mend: \`ifconfig lo0 alias ${addresses[0] ?? 'ADDRESS'}\` and so on as root`
      );
    case 'no-stand-in': {
      const families = ([4, 6] as const).filter((family) => addresses.some((ip) => ipFamily(ip) === family));
      const routes = rangesOf(addresses).map((range) => `\`ip route add local ${range} dev lo\``);
      return (
        `${what} (not on this machine): ${names}. --userspace-catch-addresses leads them to an address of this machine, which has none for ` +
        `${families.map((family) => `IPv${family}`).join(' and ')} but loopback and link-local ones. Mend, as root: an interface with an address and a ` +
        `route to the others; for clients of this machine alone ${routes.join(' and ')}`
      );
    }
    case 'no-right':
      return (
        `${what} (no right to ports under 1024): ${names}. Mend: \`sysctl net.ipv4.ip_unprivileged_port_start=0\` as root, ` +
        `the capability CAP_NET_BIND_SERVICE, or Service ports above 1023`
      );
    case 'in-use':
      return `${what} (another program has the port): ${names}. Mend: stop it, \`ss -ltnup\` names it; tried again by itself`;
    case 'descriptors':
      return `${what} (no file descriptors left): ${names}. Mend: a higher \`ulimit -n\``;
    case 'other': {
      const codes = [...new Set(items.map((item) => item.code))].sort().join(', ');
      return `${what} (${codes}): ${names}. Mend: look whether these addresses are this machine's; tried again by itself`;
    }
    case 'loop':
    case 'sctp':
    case 'files':
    case 'files-udp':
    case 'untold':
      return `${what}: ${names}`;
  }
}

function list(names: readonly string[]): string {
  const sorted = [...names].sort();
  const shown = sorted.slice(0, NAMED).join(', ');
  return sorted.length > NAMED ? `${shown} and ${sorted.length - NAMED} more` : shown;
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

/** The smallest range of each family that holds the addresses, no smaller than Service ranges usually are: /16, and /112 for IPv6. */
function rangesOf(addresses: readonly Ip[]): readonly string[] {
  const ranges: string[] = [];
  for (const family of [4, 6] as const) {
    const [first, ...rest] = addresses.filter((ip) => ipFamily(ip) === family).map((ip) => ipBytes(ip));
    if (!first) continue;
    let bits = family === 4 ? 16 : 112;
    for (const bytes of rest) bits = Math.min(bits, commonBits(first, bytes));
    const range = parseCidr(`${ipFromBytes(first)}/${bits}`);
    if (range !== undefined) ranges.push(range);
  }
  return ranges;
}

function commonBits(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) {
    const different = (a[i] ?? 0) ^ (b[i] ?? 0);
    if (different !== 0) return i * 8 + Math.clz32(different) - 24;
  }
  return a.length * 8;
}
