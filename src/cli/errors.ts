/** Wrong usage or configuration: exit code 2. The message says what, where and the mend. */
export class UsageError extends Error {
  readonly code = 'USAGE';
}

/** A failure that ends the command: exit code 1. The message says what, where and the mend. */
export class CommandError extends Error {
  readonly code = 'COMMAND';
}

export const EXIT_STOPPED = 0;
export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
