// What the tracers of the backends take and give: a packet, the node around it, and what becomes of it.

import type { Ip } from '../lib/ip.ts';
import type { Protocol } from '../model/records.ts';

export interface TracePacket {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: Protocol;
  readonly port: number;
  /** The interface that it came in on; undefined for the node's own packets, and where it is not known. */
  readonly inputInterface?: string | undefined;
}

export interface TraceWorld {
  /** The node's own addresses; loopback ones always are. A packet from one of them is the node's own. */
  readonly localAddresses: readonly string[];
}

export interface TraceTarget {
  /** `10.0.0.1:8080`, `[fd00::1]:8080`. */
  readonly endpoint: string;
  readonly masquerade: boolean;
}

export interface TraceResult {
  /** Every endpoint that the packet may be sent to, in the order in which they are drawn. `none`: no rule speaks of it. */
  readonly verdict: readonly string[] | 'REJECT' | 'DROP' | 'none';
  readonly targets: readonly TraceTarget[];
}
