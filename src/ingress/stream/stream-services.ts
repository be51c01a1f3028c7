// The ConfigMaps of `--tcp-services-configmap` and `--udp-services-configmap`: one port each, and the Service that has it.

import { parsePort, type Port } from '../../lib/port.ts';
import type { ConfigMapRecord, IngressPortRef, ObjectKey } from '../../model/records.ts';

export type StreamProtocol = 'TCP' | 'UDP';

/** One port that is passed on as it is. */
export interface StreamService {
  readonly protocol: StreamProtocol;
  readonly port: Port;
  readonly service: ObjectKey;
  readonly servicePort: IngressPortRef;
  /** Clients begin with the PROXY protocol; and so do we, to the endpoint (version 1). */
  readonly proxyIn: boolean;
  readonly proxyOut: boolean;
}

export interface StreamProblem {
  /** The key of the ConfigMap. */
  readonly port: string;
  readonly reason: string;
  readonly mend: string;
}

export interface ReadStreams {
  readonly services: readonly StreamService[];
  readonly problems: readonly StreamProblem[];
}

const FORM =
  'write NAMESPACE/SERVICE:PORT, for TCP with :PROXY behind it to read the PROXY protocol, and :PROXY again to send it';

/** `reserved`: ports that this process has for something else. What cannot be read concerns its own port alone. */
export function readStreamServices(
  protocol: StreamProtocol,
  map: ConfigMapRecord | undefined,
  reserved: ReadonlySet<number>,
): ReadStreams {
  const services: StreamService[] = [];
  const problems: StreamProblem[] = [];
  for (const [key, value] of map?.data ?? []) {
    const read = readOne(protocol, key, value.trim(), reserved);
    if ('reason' in read) problems.push(read);
    else services.push(read);
  }
  services.sort((a, b) => a.port - b.port);
  return { services, problems };
}

function readOne(
  protocol: StreamProtocol,
  key: string,
  value: string,
  reserved: ReadonlySet<number>,
): StreamService | StreamProblem {
  const port = parsePort(key);
  if (port === undefined) return { port: key, reason: 'the key is no port', mend: 'use a number from 1 to 65535' };
  if (protocol === 'TCP' && reserved.has(port)) {
    return { port: key, reason: 'this controller has the port for itself', mend: 'use another port' };
  }
  const [service = '', named = '', ...words] = value.split(':').map((word) => word.trim());
  if (!/^[a-z0-9.-]+\/[a-z0-9.-]+$/.test(service) || named === '') {
    return { port: key, reason: `"${value}" names no Service and port`, mend: FORM };
  }
  if (words.length > 2 || words.some((word) => word !== '' && word.toUpperCase() !== 'PROXY')) {
    return { port: key, reason: `"${value}" has more than PROXY behind the port`, mend: FORM };
  }
  const [proxyIn = false, proxyOut = false] = words.map((word) => word !== '');
  if (protocol === 'UDP' && (proxyIn || proxyOut)) {
    return { port: key, reason: 'the PROXY protocol is for TCP', mend: 'leave PROXY out' };
  }
  const number = /^[0-9]+$/.test(named) ? parsePort(named) : undefined;
  if (number === undefined && /^[0-9]+$/.test(named)) {
    return { port: key, reason: `${named} is no port`, mend: FORM };
  }
  const servicePort: IngressPortRef = number === undefined ? { kind: 'name', name: named } : { kind: 'number', number };
  return { protocol, port, service, servicePort, proxyIn, proxyOut };
}
