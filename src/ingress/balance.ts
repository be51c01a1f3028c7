// Round robin, with the list swapped while it turns.

export class RoundRobin<T> {
  #targets: readonly T[];
  #next: number;

  /** `random` in [0, 1) is where it starts, so that several workers do not all begin with the same target. */
  constructor(targets: readonly T[], random: number) {
    this.#targets = targets;
    this.#next = Math.floor(random * targets.length);
  }

  get targets(): readonly T[] {
    return this.#targets;
  }

  /** From now on these; the turn goes on at the same place. */
  swap(targets: readonly T[]): void {
    this.#targets = targets;
  }

  has(target: T): boolean {
    return this.#targets.includes(target);
  }

  /** The next target that is not among `tried`; undefined when there is none. */
  pick(tried?: readonly T[]): T | undefined {
    const count = this.#targets.length;
    for (let step = 0; step < count; step++) {
      if (this.#next >= count) this.#next = 0;
      const target = this.#targets[this.#next++];
      if (target !== undefined && !tried?.includes(target)) return target;
    }
    return undefined;
  }
}
