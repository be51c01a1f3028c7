// What the relays take on at most, by the flags and by the files that this process may have open, and what the user is told of it.

import type { Logger } from '../../observe/log.ts';
import type { UserspaceConfig } from '../config.ts';
import {
  Admission,
  connectionLimit,
  Episode,
  shareOfFiles,
  type AdmissionNews,
  type AdmissionOptions,
} from './admission.ts';
import { filesNotice, type Notice } from './notice.ts';

export interface LimitsOptions {
  readonly config: UserspaceConfig;
  /** That the process may have open. */
  readonly files: number;
  readonly log: Logger;
}

export class Limits {
  /** Of TCP connections. */
  readonly admission: Admission;
  readonly #files: number;
  readonly #log: Logger;
  readonly #evictions = new Episode();
  #config: UserspaceConfig;

  constructor({ config, files, log }: LimitsOptions) {
    this.#files = files;
    this.#log = log;
    this.#config = config;
    this.admission = new Admission(this.#ofConnections(), (news) => this.#tell(news));
  }

  configure(config: UserspaceConfig): void {
    this.#config = config;
    this.admission.configure(this.#ofConnections());
  }

  /** UDP flows at a time. */
  get maxFlows(): number {
    return shareOfFiles(this.#files, this.#config.maxUdpFlows).flows;
  }

  /** A UDP flow has ended before its time to make room. */
  evicted(): void {
    if (!this.#evictions.happens()) return;
    this.#log.warn(
      `${this.maxFlows} UDP flows are carried, the most there may be: for each new one that which was silent longest ends before its time. ` +
        'Mend: a higher --userspace-max-udp-flows, and `ulimit -n`',
    );
  }

  /** So many UDP flows there are now. */
  carries(flows: number): void {
    const ended = this.#evictions.settle(flows, this.maxFlows);
    if (ended !== undefined) this.#log.info('UDP flows keep their time again', { ended });
  }

  /** What was asked for and cannot be had. */
  notices(): readonly Notice[] {
    const { maxConnections, maxUdpFlows } = this.#config;
    const most = { flows: this.maxFlows, connections: this.#ofConnections().maxConnections };
    const found: Notice[] = [];
    if (typeof maxUdpFlows === 'number' && maxUdpFlows > most.flows) {
      found.push(filesNotice('flows', maxUdpFlows, most.flows, this.#files));
    }
    if (typeof maxConnections === 'number' && maxConnections > most.connections) {
      found.push(filesNotice('connections', maxConnections, most.connections, this.#files));
    }
    return found;
  }

  #ofConnections(): AdmissionOptions {
    const { maxConnections, maxUdpFlows, maxBufferedBytes } = this.#config;
    return { maxConnections: connectionLimit(maxConnections, this.#files, maxUdpFlows), maxBufferedBytes };
  }

  #tell(news: AdmissionNews): void {
    if (news.kind === 'over') {
      this.#log.info('new connections are taken again', { refused: news.refused, limit: news.excess });
      return;
    }
    const { maxConnections, maxBufferedBytes } = this.#ofConnections();
    this.#log.warn(
      news.excess === 'connections'
        ? `${maxConnections} TCP connections are carried, the most there may be: new ones are reset until some end. Mend: a higher --userspace-max-connections, and \`ulimit -n\``
        : `${maxBufferedBytes >> 20} MiB wait in the relays for slow readers, the most there may be: new TCP connections are reset until there is less. Mend: a higher --userspace-max-buffered-mib`,
    );
  }
}
