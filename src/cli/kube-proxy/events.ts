// The Events that kube-proxy writes, under its reasons.

import { EventRecorder } from '../../source/api/event.ts';
import type { ApiConnection } from '../../source/api/connection.ts';
import type { RunningContext } from '../context.ts';

export class ProxyEvents {
  readonly #recorder: EventRecorder;
  readonly #nodeName: string;

  constructor(context: RunningContext, nodeName: string) {
    this.#recorder = new EventRecorder({ ...context, controller: 'fairlead-proxy', nodeName });
    this.#nodeName = nodeName;
  }

  /** From now on they can be written, where there is an API server. */
  connect(connection: ApiConnection | undefined): void {
    this.#recorder.connect(connection);
  }

  starting(): void {
    this.#ofNode('Normal', 'Starting', 'fairlead proxy is starting');
  }

  conntrackLimitsNotSet(note: string): void {
    this.#ofNode('Warning', 'FailedToSetConntrackLimits', note);
  }

  healthCheckNotServed({ namespace, name }: { readonly namespace: string; readonly name: string }, note: string): void {
    this.#recorder.record({
      regarding: { kind: 'Service', namespace, name },
      type: 'Warning',
      reason: 'FailedToStartServiceHealthcheck',
      action: 'Listen',
      note,
    });
  }

  async stop(): Promise<void> {
    await this.#recorder.stop();
  }

  #ofNode(type: 'Normal' | 'Warning', reason: string, note: string): void {
    const regarding = { kind: 'Node', namespace: '', name: this.#nodeName } as const;
    this.#recorder.record({ regarding, type, reason, action: 'StartKubeProxy', note });
  }
}
