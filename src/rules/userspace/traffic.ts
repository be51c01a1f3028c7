// What each ServicePort carries, counted where it passes and given when the metrics are asked for.

import type { ServicePortKey } from '../../model/snapshot.ts';
import type { CollectedOptions, Metrics, Sample } from '../../observe/metrics.ts';
import type { Excess } from './admission.ts';

/** The counts of one ServicePort: of TCP connections, or of UDP flows. */
export class Tally {
  /** Now. */
  open = 0;
  begun = 0;
  /** Bytes from clients, and to them. */
  received = 0;
  sent = 0;
  readonly refused = new Map<Excess, number>();

  refuse(excess: Excess): void {
    this.refused.set(excess, (this.refused.get(excess) ?? 0) + 1);
  }
}

export class Traffic {
  readonly #tallies = new Map<ServicePortKey, Tally>();

  tallyOf(key: ServicePortKey): Tally {
    const known = this.#tallies.get(key);
    if (known) return known;
    const tally = new Tally();
    this.#tallies.set(key, tally);
    return tally;
  }

  /** The ServicePort is gone; what it still carries is no longer counted. */
  forget(key: ServicePortKey): void {
    this.#tallies.delete(key);
  }

  /** `settle` brings the counts up to this moment. */
  expose(metrics: Metrics, settle: () => void): void {
    metrics.beforeText('userspace', settle);
    const add = (name: string, type: CollectedOptions['type'], help: string, values: Values): void =>
      metrics.collected({ name, type, help, samples: () => this.#samples(name, values) });
    add(
      'fairlead_userspace_service_connections',
      'gauge',
      'TCP connections, or UDP flows, that a Service port carries now.',
      (tally) => [[{}, tally.open]],
    );
    add(
      'fairlead_userspace_service_connections_total',
      'counter',
      'TCP connections, or UDP flows, that were begun at a Service port.',
      (tally) => [[{}, tally.begun]],
    );
    add(
      'fairlead_userspace_service_bytes_total',
      'counter',
      'Bytes that a Service port received from clients and sent to them.',
      (tally) => [
        [{ direction: 'received' }, tally.received],
        [{ direction: 'sent' }, tally.sent],
      ],
    );
    add(
      'fairlead_userspace_service_refused_total',
      'counter',
      'TCP connections that were reset at once, as there were too many of them or too much waited in the relays.',
      (tally) => [...tally.refused].map(([reason, count]) => [{ reason }, count]),
    );
  }

  *#samples(name: string, values: Values): Iterable<Sample> {
    for (const [key, tally] of this.#tallies) {
      for (const [labels, value] of values(tally)) yield { name, labels: { ...labelsOf(key), ...labels }, value };
    }
  }
}

type Values = (tally: Tally) => readonly (readonly [Readonly<Record<string, string>>, number])[];

/** Of `ns/name:port/PROTO/IPvN`. */
function labelsOf(key: ServicePortKey): Readonly<Record<string, string>> {
  const [namespace = '', rest = '', protocol = '', family = ''] = key.split('/');
  const [service = '', port = ''] = rest.split(':');
  return { namespace, service, port, protocol, family };
}
