import type { Meters } from '../observe/metrics.ts';
import type { RequestRecord } from './http/forward.ts';
import type { ConnectionCounts } from './data-path.ts';
import { PREFIX } from './traffic-counts.ts';

/** ingress-nginx' metrics of the process that carries requests; those of each location are in `TrafficCounts`. */
export class TrafficMetrics {
  #requests = 0;
  #received = 0;
  #sent = 0;
  #retries = 0;

  /** `labels`: of every sample. */
  constructor(metrics: Meters, connections: () => ConnectionCounts, labels: Readonly<Record<string, string>> = {}) {
    this.#show(metrics, connections, labels);
  }

  record({ received, sent, retries = 0 }: RequestRecord): void {
    this.#requests++;
    this.#received += received;
    this.#sent += sent;
    this.#retries += retries;
  }

  #show(metrics: Meters, connections: () => ConnectionCounts, own: Readonly<Record<string, string>>): void {
    const gauge = `${PREFIX}nginx_process_connections`;
    metrics.collected({
      name: gauge,
      help: 'Client connections by what they do',
      type: 'gauge',
      samples: () => {
        const { active, busy } = connections();
        return [
          { name: gauge, labels: { ...own, state: 'reading' }, value: 0 },
          { name: gauge, labels: { ...own, state: 'active' }, value: active },
          { name: gauge, labels: { ...own, state: 'writing' }, value: busy },
          { name: gauge, labels: { ...own, state: 'waiting' }, value: Math.max(0, active - busy) },
        ];
      },
    });
    const total = `${PREFIX}nginx_process_connections_total`;
    metrics.collected({
      name: total,
      help: 'Client connections accepted',
      type: 'counter',
      samples: () =>
        ['accepted', 'handled'].map((state) => ({
          name: total,
          labels: { ...own, state },
          value: connections().accepted,
        })),
    });
    const counter = (name: string, help: string, value: () => number): void =>
      metrics.collected({ name, help, type: 'counter', samples: () => [{ name, labels: own, value: value() }] });
    counter(`${PREFIX}nginx_process_read_bytes_total`, 'Bytes of request bodies', () => this.#received);
    counter(`${PREFIX}nginx_process_write_bytes_total`, 'Bytes of answer bodies', () => this.#sent);
    counter('fairlead_ingress_retries_total', 'Requests that were sent to an endpoint again', () => this.#retries);
    const requests = `${PREFIX}nginx_process_requests_total`;
    metrics.collected({
      name: requests,
      help: 'Requests of clients, malformed ones included',
      type: 'counter',
      samples: () => [{ name: requests, labels: own, value: this.#requests }],
    });
  }
}
