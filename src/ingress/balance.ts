// Round robin, with the list swapped while it turns.

/** What one request may go to. */
export interface Targets<T> {
  readonly targets: readonly T[];
  has(target: T): boolean;
  /** The next target that is not among `tried`; undefined when there is none. */
  pick(tried?: readonly T[]): T | undefined;
  /** It has answered after so many milliseconds. */
  answered?(target: T, ms: number): void;
}

/** One target first, while it is there; then the turn. */
export class Preferring<T> implements Targets<T> {
  readonly #first: T;
  readonly #turn: Targets<T>;

  constructor(first: T, turn: Targets<T>) {
    this.#first = first;
    this.#turn = turn;
  }

  get targets(): readonly T[] {
    return this.#turn.targets;
  }

  has(target: T): boolean {
    return this.#turn.has(target);
  }

  pick(tried?: readonly T[]): T | undefined {
    const usable = this.#turn.has(this.#first) && !tried?.includes(this.#first);
    return usable ? this.#first : this.#turn.pick(tried);
  }
}

export class RoundRobin<T> implements Targets<T> {
  #targets: readonly T[];
  #next: number;
  readonly #isOut: (target: T) => boolean;

  /**
   * `random` in [0, 1) is where it starts, so that several workers do not all begin with the same target. `isOut`: a target that
   * failed lately, and is picked only where there is no other.
   */
  constructor(targets: readonly T[], random: number, isOut: (target: T) => boolean = () => false) {
    this.#targets = targets;
    this.#isOut = isOut;
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
    let last: T | undefined;
    for (let step = 0; step < count; step++) {
      if (this.#next >= count) this.#next = 0;
      const target = this.#targets[this.#next++];
      if (target === undefined || tried?.includes(target)) continue;
      if (!this.#isOut(target)) return target;
      last ??= target;
    }
    return last;
  }
}
