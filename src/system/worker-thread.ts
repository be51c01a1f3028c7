// Worker threads: a module that runs beside the others in this process, with an event loop of its own, and is spoken with by messages.

import { parentPort, Worker, workerData } from 'node:worker_threads';
import { messageOf } from '../lib/message-of.ts';

export interface WorkerThread {
  /** Plain data; what it holds is copied. Nothing happens when the thread has ended. */
  post(message: unknown): void;
  /** Ends the thread where it stands. */
  terminate(): Promise<void>;
}

export interface ThreadOptions {
  /** The module's own file. */
  readonly module: URL;
  /** What it finds with `threadSide`. */
  readonly data: unknown;
  readonly onMessage: (message: unknown) => void;
  /** Called once when it has ended, with the reason where it failed. */
  readonly onEnd: (why: string | undefined) => void;
  /** Bounds the young generation of its heap, which V8 otherwise lets grow to 48 MB under load. */
  readonly youngMb: number;
}

export type StartThread = (options: ThreadOptions) => WorkerThread;

export function startThread({ module, data, onMessage, onEnd, youngMb }: ThreadOptions): WorkerThread {
  const worker = new Worker(new URL('./thread-entry.js', import.meta.url), {
    workerData: { module: module.href, data },
    resourceLimits: { maxYoungGenerationSizeMb: youngMb },
  });
  let why: string | undefined;
  worker.on('message', onMessage);
  worker.on('error', (error) => (why = error instanceof Error ? (error.stack ?? error.message) : messageOf(error)));
  worker.on('exit', (code) => onEnd(why ?? (code === 0 ? undefined : `it ended with code ${code}`)));
  return {
    post: (message) => worker.postMessage(message, []),
    terminate: async () => {
      await worker.terminate();
    },
  };
}

export interface ThreadSide {
  readonly data: unknown;
  post(message: unknown): void;
  /** One listener; until it is set, messages wait. */
  onMessage(listener: (message: unknown) => void): void;
  /** Takes no more messages: the thread ends when nothing else is open. */
  close(): void;
}

/** The thread's end of it. Throws on the main thread. */
export function threadSide(): ThreadSide {
  const port = parentPort;
  if (!port) throw new Error('this module runs in a worker thread');
  const { data } = workerData as { readonly data: unknown };
  return {
    data,
    post: (message) => port.postMessage(message),
    onMessage: (listener) => void port.on('message', listener),
    close: () => port.close(),
  };
}
