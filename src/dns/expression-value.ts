// What expressions work with.

export type Value = string | number | boolean | undefined | readonly Value[];

/** What an expression does that has no meaning: a wrong argument. */
export class ExpressionError extends Error {
  readonly code = 'EXPRESSION';
}

export function truth(value: Value): boolean {
  if (typeof value !== 'boolean') throw new ExpressionError('a condition is true or false');
  return value;
}

export function numeric(value: Value): number {
  if (typeof value !== 'number') throw new ExpressionError('a number was expected');
  return value;
}

export function textual(value: Value): string {
  if (typeof value !== 'string') throw new ExpressionError('a text was expected');
  return value;
}
