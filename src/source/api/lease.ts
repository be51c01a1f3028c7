// Leader election by a Lease (coordination.k8s.io/v1), as client-go does it: a holder that has not renewed for the Lease's time,
// seen on our own clock, has lost it. Times are those of ingress-nginx: renewed every quarter of the term, given up after half of it.

import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { ApiConnection } from './connection.ts';
import { microTime } from './micro-time.ts';
import { answerText, fieldAt, sendObject, type ObjectAnswer } from './object.ts';
import { textOf } from './raw.ts';

export interface LeaderElectionOptions {
  readonly connection: ApiConnection;
  readonly namespace: string;
  readonly name: string;
  /** Who we are: different for each replica. */
  readonly identity: string;
  readonly termMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told when it changes. */
  readonly onChange: (leading: boolean) => void;
}

interface Observed {
  readonly text: string;
  /** On the monotonic clock. */
  readonly at: number;
}

export class LeaderElection {
  readonly #options: LeaderElectionOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #leading = false;
  #renewedAt = Number.NEGATIVE_INFINITY;
  #observed: Observed | undefined;
  #told: string | undefined;
  #holder = '';

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  get leading(): boolean {
    return this.#leading;
  }

  /** Who holds the Lease, as far as is known; empty for nobody. */
  get holder(): string {
    return this.#holder;
  }

  /** Gives the Lease back when it is ours, so that another replica need not wait for the end of the term. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    if (!this.#leading) return;
    const lease = await this.#read();
    if (lease.kind === 'object' && textOf(fieldAt(lease.object, 'spec'), 'holderIdentity') === this.#options.identity) {
      await this.#write(lease.object, '', 1);
    }
    this.#lead(false);
  }

  async #run(): Promise<void> {
    const { clock, termMs } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#step();
      if (this.#leading && clock.monotonic() - this.#renewedAt > termMs / 2) this.#lead(false);
      await clock.sleep(termMs / 4, signal);
    }
  }

  async #step(): Promise<void> {
    const lease = await this.#read();
    if (lease.kind === 'missing') {
      this.#judge(await this.#create());
      return;
    }
    if (lease.kind !== 'object') {
      this.#tell(lease);
      return;
    }
    this.#told = undefined;
    const { identity, clock } = this.#options;
    const spec = fieldAt(lease.object, 'spec');
    this.#holder = textOf(spec, 'holderIdentity') ?? '';
    const text = JSON.stringify(spec);
    if (this.#observed?.text !== text) this.#observed = { text, at: clock.monotonic() };
    const seconds = Number(fieldAt(spec, 'leaseDurationSeconds') ?? 0);
    const over = clock.monotonic() - this.#observed.at > seconds * 1000;
    if (this.#holder !== identity && this.#holder !== '' && !over) {
      this.#lead(false);
      return;
    }
    this.#judge(await this.#write(lease.object, identity, Math.ceil(this.#options.termMs / 1000)));
  }

  #judge(answer: ObjectAnswer): void {
    if (answer.kind === 'object') {
      this.#renewedAt = this.#options.clock.monotonic();
      this.#holder = this.#options.identity;
      this.#lead(true);
    } else if (answer.kind === 'conflict') this.#lead(false);
    else this.#tell(answer);
  }

  #lead(leading: boolean): void {
    if (leading === this.#leading) return;
    this.#leading = leading;
    const { log, name, identity, onChange } = this.#options;
    log.info(leading ? 'leading' : 'no longer leading', { lease: name, identity });
    onChange(leading);
  }

  /** Once, until it is another reason or works again. */
  #tell(answer: ObjectAnswer): void {
    const reason = answerText(answer);
    if (reason === this.#told || this.#stopping.signal.aborted) return;
    this.#told = reason;
    const { log, namespace, name } = this.#options;
    log.warn('the Lease of the election cannot be had, so this process does not lead', {
      lease: `${namespace}/${name}`,
      reason,
      mend: 'allow get, create and update of leases in coordination.k8s.io, or run with --update-status=false',
    });
  }

  get #path(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(this.#options.namespace)}/leases`;
  }

  #read(): Promise<ObjectAnswer> {
    const path = `${this.#path}/${encodeURIComponent(this.#options.name)}`;
    return sendObject(this.#options.connection, { method: 'GET', path, timeoutMs: this.#options.termMs / 2 });
  }

  #create(): Promise<ObjectAnswer> {
    const { connection, namespace, name, identity, termMs, clock } = this.#options;
    const now = microTime(clock.now());
    const object = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { namespace, name },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(termMs / 1000),
        acquireTime: now,
        renewTime: now,
        leaseTransitions: 0,
      },
    };
    return sendObject(connection, { method: 'POST', path: this.#path, object, timeoutMs: termMs / 2 });
  }

  /** Replaces the Lease as it was read: the server refuses when somebody else was faster. */
  #write(lease: unknown, holder: string, seconds: number): Promise<ObjectAnswer> {
    const { connection, name, termMs, clock } = this.#options;
    const now = microTime(clock.now());
    const spec = fieldAt(lease, 'spec');
    const before = textOf(spec, 'holderIdentity') ?? '';
    const same = before === holder;
    const transitions = Number(fieldAt(spec, 'leaseTransitions') ?? 0);
    const object = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: fieldAt(lease, 'metadata'),
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: seconds,
        acquireTime: same ? (textOf(spec, 'acquireTime') ?? now) : now,
        renewTime: now,
        leaseTransitions: same || holder === '' ? transitions : transitions + 1,
      },
    };
    const path = `${this.#path}/${encodeURIComponent(name)}`;
    return sendObject(connection, { method: 'PUT', path, object, timeoutMs: termMs / 2 });
  }
}
