import { hostPort, type Ip } from '../lib/ip.ts';

export interface ListenAddress {
  readonly address: Ip;
  /** 0 lets the system choose. */
  readonly port: number;
}

type IngressListenCode = 'port-in-use' | 'no-privilege' | 'address-not-here' | 'listen-failed';

/** A listener could not be opened; the message says which, why, and the mend. */
export class IngressListenError extends Error {
  override readonly name = 'IngressListenError';
  readonly code: IngressListenCode;
  readonly listen: ListenAddress;
  readonly scheme: string;

  constructor(cause: NodeJS.ErrnoException, listen: ListenAddress, scheme: string) {
    const code = codeOf(cause);
    super(listenMessage(code, listen, scheme, cause), { cause });
    this.code = code;
    this.listen = listen;
    this.scheme = scheme;
  }
}

function codeOf(error: NodeJS.ErrnoException): IngressListenCode {
  switch (error.code) {
    case 'EADDRINUSE':
      return 'port-in-use';
    case 'EACCES':
    case 'EPERM':
      return 'no-privilege';
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
      return 'address-not-here';
    default:
      return 'listen-failed';
  }
}

function listenMessage(code: IngressListenCode, listen: ListenAddress, scheme: string, cause: Error): string {
  const what = `Ingress cannot listen for ${scheme} on ${hostPort(listen.address, listen.port)}`;
  // `ingress` takes a port, `up` an address with it.
  const name = scheme.toLowerCase();
  const flag = `--${name}-port (up: --${name}-bind-address)`;
  switch (code) {
    case 'port-in-use':
      return `${what}: another program has the port. Stop it (\`ss -ltnp\` names it), or choose another with ${flag}.`;
    case 'no-privilege':
      return `${what}: no privilege for this port. Run with CAP_NET_BIND_SERVICE, or choose a port from 1024 on with ${flag}.`;
    case 'address-not-here':
      return `${what}: this machine does not have the address. Give one of its own (\`ip address\` lists them).`;
    case 'listen-failed':
      return `${what}: ${cause.message}. Choose another address or port (${flag}).`;
  }
}
