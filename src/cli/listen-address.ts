import { parseIp, type Ip } from '../lib/ip.ts';

/** Where to listen. Port 0 lets the kernel choose. */
export interface ListenAddress {
  readonly address: Ip;
  readonly port: number;
}

/** `IP:PORT` or `:PORT`, and with `defaultPort` a bare IP too. Undefined for anything else. */
export function parseListen(text: string, defaultPort?: number): ListenAddress | undefined {
  const bare = defaultPort === undefined ? undefined : parseIp(text.replace(/^\[(.*)\]$/, '$1'));
  if (bare && defaultPort !== undefined) return { address: bare, port: defaultPort };
  const match = /^(?:\[([^\]]+)\]|([^:]*)):([0-9]{1,5})$/.exec(text);
  const address = match && parseIp(match[1] ?? (match[2] === '' ? '0.0.0.0' : (match[2] ?? '')));
  const number = match && Number(match[3]);
  if (!address || number === null || number > 65535) return undefined;
  return { address, port: number };
}
