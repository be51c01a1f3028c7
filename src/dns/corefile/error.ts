// What is wrong with a Corefile, and where.

export interface Place {
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/** A Corefile that cannot be taken. The message begins with `file:line`, and says what was expected. */
export class CorefileError extends Error {
  readonly code = 'COREFILE';
  readonly place: Place;

  constructor(place: Place, what: string) {
    super(`${place.file}:${place.line}: ${what}`);
    this.name = 'CorefileError';
    this.place = place;
  }
}
