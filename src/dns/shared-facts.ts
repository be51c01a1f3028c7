// What all threads that answer have in common, beside the zone: a secret, and facts that one of them finds out.

export interface SharedFacts {
  /** Not to be guessed, the same in all of them for as long as a configuration is in force. */
  readonly secret: string;
  /** Tells all of them, this one included, some time later. */
  announce(fact: string): void;
  onAnnounced(call: (fact: string) => void): void;
}

/** The facts of one thread alone, or its end of those of several: `send` takes a fact to the others and back. */
export class FactsHere implements SharedFacts {
  readonly secret: string;
  readonly #send: ((fact: string) => void) | undefined;
  readonly #calls = new Set<(fact: string) => void>();

  constructor(secret: string, send?: (fact: string) => void) {
    this.secret = secret;
    this.#send = send;
  }

  announce(fact: string): void {
    if (this.#send) this.#send(fact);
    else queueMicrotask(() => this.announced(fact));
  }

  announced(fact: string): void {
    for (const call of this.#calls) call(fact);
  }

  onAnnounced(call: (fact: string) => void): void {
    this.#calls.add(call);
  }
}
