// What needs privileges, done when it is certain that this machine can carry the mode, and again when the configuration file changes it.

import type { RulesMode } from '../../rules/backend.ts';
import type { RunningContext } from '../context.ts';
import type { LiveConfiguration } from './live.ts';
import { setConntrackLimits, setOomScore } from './privileged.ts';
import type { KubeProxyConfiguration } from './schema.ts';

export class NodePreparation {
  readonly #context: RunningContext;
  readonly #live: LiveConfiguration;
  readonly #onProblem: (note: string) => void;
  #working: Promise<void> = Promise.resolve();

  /** `onProblem`: told of each conntrack limit that could not be set. */
  constructor(context: RunningContext, live: LiveConfiguration, onProblem: (note: string) => void) {
    this.#context = context;
    this.#live = live;
    this.#onProblem = onProblem;
  }

  /** Resolves when the node is prepared for what the configuration says now. */
  begin(mode: RulesMode): Promise<void> {
    let before = this.#live.current;
    this.#live.onChange((now) => {
      const same =
        JSON.stringify(now.conntrack) === JSON.stringify(before.conntrack) && now.oomScoreAdj === before.oomScoreAdj;
      before = now;
      if (!same) this.#working = this.#working.then(() => this.#prepare(now, mode));
    });
    return (this.#working = this.#prepare(before, mode));
  }

  /** Resolves when nothing is under way any more. */
  done(): Promise<void> {
    return this.#working;
  }

  /** What cannot be done is told, and traffic is carried all the same: kube-proxy ends here. */
  async #prepare(configuration: KubeProxyConfiguration, mode: RulesMode): Promise<void> {
    await setOomScore(configuration, this.#context);
    // Relays need no conntrack.
    if (mode === 'userspace') return;
    for (const problem of await setConntrackLimits(configuration, this.#context)) {
      this.#context.log.error(problem);
      this.#onProblem(problem);
    }
  }
}
