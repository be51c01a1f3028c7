// One log line a change, with counts and durations; text for people, JSON for machines. Lines go to standard error,
// so that what a command prints on standard output stays what it is.

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log with the name of a part of the program on each line. */
  named(part: string): Logger;
}

export interface LogOptions {
  readonly format: 'text' | 'json';
  /** 0 writes info and worse; 4 and more writes debug as well, as klog's `-v`. */
  readonly verbosity: number;
  readonly write: (line: string) => void;
  readonly now: () => number;
}

const DEBUG_VERBOSITY = 4;
/** The same warning or error again within this time is counted, not written. */
const REPEAT_WINDOW_MS = 10_000;
const REPEATS_KEPT = 256;

export function createLogger(options: LogOptions): Logger {
  const repeats = new Map<string, { until: number; count: number }>();

  const emit = (level: LogLevel, part: string | undefined, message: string, fields: LogFields): void => {
    options.write(`${format(options.format, options.now(), level, part, message, fields)}\n`);
  };

  const log = (level: LogLevel, part: string | undefined, message: string, fields: LogFields = {}): void => {
    if (level === 'debug' && options.verbosity < DEBUG_VERBOSITY) return;
    if (level === 'warn' || level === 'error') {
      const key = `${part ?? ''}\0${message}\0${JSON.stringify(fields)}`;
      const now = options.now();
      const seen = repeats.get(key);
      if (seen && now < seen.until) {
        seen.count++;
        return;
      }
      if (seen && seen.count > 0)
        fields = { ...fields, repeated: `${seen.count} times in ${REPEAT_WINDOW_MS / 1000} s` };
      if (repeats.size >= REPEATS_KEPT) repeats.clear();
      repeats.set(key, { until: now + REPEAT_WINDOW_MS, count: 0 });
    }
    emit(level, part, message, fields);
  };

  const logger = (part: string | undefined): Logger => ({
    debug: (message, fields) => log('debug', part, message, fields),
    info: (message, fields) => log('info', part, message, fields),
    warn: (message, fields) => log('warn', part, message, fields),
    error: (message, fields) => log('error', part, message, fields),
    named: (name) => logger(part ? `${part}.${name}` : name),
  });
  return logger(undefined);
}

function format(
  kind: 'text' | 'json',
  now: number,
  level: LogLevel,
  part: string | undefined,
  message: string,
  fields: LogFields,
): string {
  const time = new Date(now).toISOString();
  if (kind === 'json') return JSON.stringify({ time, level, part, message, ...fields });
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${quote(String(value))}`);
  return `${time} ${level.toUpperCase().padEnd(5)} ${part ? `${part}: ` : ''}${oneLine(message)}${pairs.join('')}`;
}

/** Messages quote objects and files; what stands in them must not look like a line of ours. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

function quote(value: string): string {
  return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

/** A log that keeps nothing; for tests and for commands that print a result. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  named: () => silentLogger,
};
