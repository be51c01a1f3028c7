// The ready endpoints of one slice as plain data in a few long strings: a worker thread has as many of them as there are Pods, and as objects
// they would be most of its memory.

import type { Ip } from '../../lib/ip.ts';
import type { SlicePort } from '../../model/records.ts';
import type { DnsEndpoint, DnsEndpoints, DnsSlice } from './source.ts';

/** Lists, one line for each endpoint, empty where it has none; undefined where none has one. */
export interface PackedSlice {
  readonly ports: readonly SlicePort[];
  readonly cluster?: string;
  readonly ips: string;
  readonly hostnames: string | undefined;
  readonly podNames: string | undefined;
  readonly zones: string | undefined;
}

/** Undefined for a slice without a ready endpoint. */
export function packSlice({ endpoints, ports, cluster }: DnsSlice): PackedSlice | undefined {
  const ready = [...endpoints].filter((endpoint) => endpoint.ready);
  if (ready.length === 0) return undefined;
  return {
    ports,
    ...(cluster === undefined ? {} : { cluster }),
    ips: ready.map(({ ip }) => ip).join('\n'),
    hostnames: lines(ready.map(({ hostname }) => hostname)),
    podNames: lines(ready.map(({ podName }) => podName)),
    zones: lines(ready.map(({ zone }) => zone)),
  };
}

/** No name has a line break in it; one that has would push those after it out of their places. */
function lines(values: readonly (string | undefined)[]): string | undefined {
  if (values.every((value) => value === undefined)) return undefined;
  return values.map((value) => (value === undefined || value.includes('\n') ? '' : value)).join('\n');
}

export class PackedEndpoints implements DnsEndpoints {
  readonly length: number;
  readonly #packed: PackedSlice;

  constructor(packed: PackedSlice) {
    this.#packed = packed;
    this.length = packed.ips.split('\n').length;
  }

  *[Symbol.iterator](): Generator<DnsEndpoint> {
    const { ips, hostnames, podNames, zones } = this.#packed;
    const [hosts, pods, places] = [hostnames, podNames, zones].map((list) => list?.split('\n'));
    for (const [i, ip] of ips.split('\n').entries())
      yield {
        ip: ip as Ip,
        ready: true,
        hostname: hosts?.[i] || undefined,
        podName: pods?.[i] || undefined,
        zone: places?.[i] || undefined,
      };
  }
}
