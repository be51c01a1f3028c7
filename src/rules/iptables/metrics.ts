// What kube-proxy counts in its iptables mode, under its names.

import type { IpFamily } from '../../lib/ip.ts';
import type { Count, Level, Metrics } from '../../observe/metrics.ts';
import { FAMILIES, partsOfChain, type Table } from './names.ts';
import { linesIn, type ChainChange } from './plan.ts';

const LABELS = ['table', 'ip_family'];
const COUNTED: readonly Table[] = ['filter', 'nat'];

export class IptablesMetrics {
  readonly #total: Level;
  readonly #last: Level;
  readonly #failures: Count;
  readonly #partialFailures: Count;
  /** By `4/nat`. */
  #rules = new Map<string, number>();

  constructor(metrics: Metrics) {
    this.#total = metrics.gauge({
      name: 'kubeproxy_sync_proxy_rules_iptables_total',
      help: 'Rules in the chains of ours.',
      labels: LABELS,
    });
    this.#last = metrics.gauge({
      name: 'kubeproxy_sync_proxy_rules_iptables_last',
      help: 'Rules that the last sync wrote.',
      labels: LABELS,
    });
    this.#failures = metrics.counter({
      name: 'kubeproxy_sync_proxy_rules_iptables_restore_failures_total',
      help: 'Restores that iptables refused.',
      labels: ['ip_family'],
    });
    this.#partialFailures = metrics.counter({
      name: 'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total',
      help: 'Restores of changed chains only that iptables refused.',
      labels: ['ip_family'],
    });
    for (const family of FAMILIES) {
      this.#failures.add(0, familyLabel(family));
      this.#partialFailures.add(0, familyLabel(family));
    }
  }

  /** The rules of each table, by `4/nat`. */
  totals(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#rules);
  }

  /** `guards`: rules of ours in the chain that kubelet may have, too. */
  loaded(all: readonly ChainChange[], written: readonly ChainChange[], guards: number): void {
    this.#rules = new Map([['4/filter', guards]]);
    this.#add(all.map(({ id, after }) => ({ id, before: undefined, after })));
    this.#publish(written);
  }

  changed(changes: readonly ChainChange[]): void {
    this.#add(changes);
    this.#publish(changes);
  }

  failed(family: IpFamily, partial: boolean): void {
    this.#failures.add(1, familyLabel(family));
    if (partial) this.#partialFailures.add(1, familyLabel(family));
  }

  #add(changes: readonly ChainChange[]): void {
    for (const { id, before, after } of changes) {
      const table = tableOf(id);
      this.#rules.set(table, (this.#rules.get(table) ?? 0) + linesIn(after) - linesIn(before));
    }
  }

  #publish(written: readonly ChainChange[]): void {
    const last = new Map<string, number>();
    for (const { id, after } of written) last.set(tableOf(id), (last.get(tableOf(id)) ?? 0) + linesIn(after));
    for (const family of FAMILIES) {
      for (const table of COUNTED) {
        const labels = { table, ...familyLabel(family) };
        this.#total.set(this.#rules.get(`${family}/${table}`) ?? 0, labels);
        this.#last.set(last.get(`${family}/${table}`) ?? 0, labels);
      }
    }
  }
}

function tableOf(id: string): string {
  const { family, table } = partsOfChain(id);
  return `${family}/${table}`;
}

function familyLabel(family: IpFamily): { readonly ip_family: string } {
  return { ip_family: `IPv${family}` };
}
