// What every running command is given: the doors to the world, made once, here.

import { availableParallelism, hostname } from 'node:os';
import { createLogger, type Logger } from '../observe/log.ts';
import { createMetrics, type Metrics } from '../observe/metrics.ts';
import { systemClock, type Clock } from '../system/clock.ts';
import { systemExec, type Exec } from '../system/exec.ts';
import { systemFollow, type Follow } from '../system/follow.ts';
import { ToolShells } from '../system/tool-shell.ts';
import { systemFiles, type Files } from '../system/files.ts';
import type { Arguments } from './args.ts';
import { logSettings, type LogSettings } from './settings.ts';

export interface Context {
  readonly log: Logger;
  readonly clock: Clock;
  readonly exec: Exec;
  readonly follow: Follow;
  readonly files: Files;
  readonly random: () => number;
  readonly hostname: string;
  readonly cpus: number;
  readonly out: (text: string) => void;
}

export interface RunningContext extends Context {
  readonly metrics: Metrics;
  /** To be called once, last. */
  readonly close: () => Promise<void>;
}

/** `logging` may change while the program runs; without it the flags say. */
export function createContext(args: Arguments, logging: LogSettings = logSettings(args)): Context {
  return {
    log: createLogger({
      get format() {
        return logging.format;
      },
      get verbosity() {
        return logging.verbosity;
      },
      write: (line) => void process.stderr.write(line),
      now: () => systemClock.now(),
    }),
    clock: systemClock,
    exec: systemExec,
    follow: systemFollow,
    files: systemFiles,
    random: Math.random,
    hostname: hostname(),
    cpus: availableParallelism(),
    out: (text) => void process.stdout.write(text),
  };
}

export function createRunningContext(args: Arguments, logging?: LogSettings): RunningContext {
  // A process that runs has a large heap some day, and starts tools all the time.
  const tools = new ToolShells(systemExec);
  return { ...createContext(args, logging), exec: tools, metrics: createMetrics(), close: () => tools.close() };
}
