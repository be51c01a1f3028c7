// A thread that answers: it has sockets, plugins and a zone of its own, and hears from the main thread what changes.

import { createTally } from '../observe/tally.ts';
import type { Logger, LogFields, LogLevel } from '../observe/log.ts';
import { systemClock } from '../system/clock.ts';
import { systemFiles } from '../system/files.ts';
import { collectGarbage } from '../system/heap.ts';
import { threadSide } from '../system/worker-thread.ts';
import { Answerer } from './answerer.ts';
import { blocksOf } from './block-source.ts';
import { DnsListenError } from './listen-error.ts';
import type { FromWorker, LogLine, ToWorker, WorkerData } from './worker-messages.ts';
import { emptySource, withChanges } from './zone/source.ts';

/** Counts are told this often without being asked: what a thread that dies has counted since is lost. */
const COUNT_MS = 1000;

const thread = threadSide();
const data = thread.data as WorkerData;
const post = (message: FromWorker): void => thread.post(message);

const tally = createTally();
const answerer = new Answerer({
  ...data,
  announce: (fact) => post({ kind: 'announce', fact }),
  log: postingLog(),
  metrics: tally,
  clock: systemClock,
  files: systemFiles,
  random: Math.random,
});

let source = emptySource();
/** Before all of the first source has come, what is not there may only not be known yet. */
let complete = false;
const finishing = new AbortController();

thread.onMessage((message) => void handle(message as ToWorker));
void tellCounts();

async function handle(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case 'changes':
      source = withChanges(source, message.changes);
      if (!complete && !message.changes.last) return;
      answerer.update(source);
      // Nobody waits yet for what it has only just come to know.
      if (!complete) collectGarbage();
      complete = true;
      if (message.changes.last) post({ kind: 'applied', figures: answerer.figures });
      return;
    case 'take':
      await take(message);
      return;
    case 'announced':
      answerer.announced(message.fact);
      return;
    case 'count':
      await tellCount(message.id);
      return;
    case 'finish':
      finishing.abort();
      await answerer.finish();
      await tellCount(0);
      thread.close();
      return;
  }
}

async function take({ id, source: blocks, secret, ports }: Extract<ToWorker, { kind: 'take' }>): Promise<void> {
  try {
    await answerer.take({ blocks: await blocksOf(blocks, systemFiles), secret, ports });
    const { addresses, figures } = answerer;
    post({ kind: 'taken', id, addresses, ports: answerer.ports, figures });
  } catch (error) {
    if (!(error instanceof DnsListenError)) throw error;
    const { code, message } = (error.cause ?? error) as NodeJS.ErrnoException;
    post({ kind: 'refused', id, at: error.at, code, message });
  }
}

async function tellCount(id: number): Promise<void> {
  post({ kind: 'counted', id, families: await tally.families(), figures: answerer.figures });
}

async function tellCounts(): Promise<void> {
  while (!finishing.signal.aborted) {
    await systemClock.sleep(COUNT_MS, finishing.signal);
    if (!finishing.signal.aborted) await tellCount(0);
  }
}

/** Lines go to the main thread, those of one turn in one message. */
function postingLog(): Logger {
  let lines: LogLine[] = [];
  const flush = (): void => {
    const now = lines;
    lines = [];
    post({ kind: 'log', lines: now });
  };
  const log = (level: LogLevel, message: string, fields: LogFields | undefined): void => {
    if (lines.length === 0) systemClock.after(0, flush);
    lines.push({ level, message, fields });
  };
  const logger: Logger = {
    debug: (message, fields) => log('debug', message, fields),
    info: (message, fields) => log('info', message, fields),
    warn: (message, fields) => log('warn', message, fields),
    error: (message, fields) => log('error', message, fields),
    named: () => logger,
  };
  return logger;
}
