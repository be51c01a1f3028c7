// A thread that carries requests: a plane of its own on ports that it shares with the others, told by the main thread what changes.

import { createTally } from '../observe/tally.ts';
import type { Logger } from '../observe/log.ts';
import { systemClock } from '../system/clock.ts';
import { threadSide } from '../system/worker-thread.ts';
import { LimitState } from './limit-state.ts';
import { IngressListenError } from './listen-error.ts';
import { startIngressPlane, type IngressPlane } from './plane.ts';
import { TrafficCounts } from './traffic-counts.ts';
import type { FromWorker, ToWorker, WorkerData } from './worker-messages.ts';
import { emptySource, snapshotOf, withChanges } from './worker-source.ts';

/** Counts are told this often without being asked: what a thread that dies has counted since is lost. */
const COUNT_MS = 1000;

const thread = threadSide();
const data = thread.data as WorkerData;
const post = (message: FromWorker): void => thread.post(message);
const tally = createTally();
const traffic = new TrafficCounts(data.traffic);
const stopping = new AbortController();

/** The main thread has said already what is wrong with objects. */
const log: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: (message, fields) => post({ kind: 'error', message, fields: { ...fields } }),
  named: () => log,
};

let plane: IngressPlane | undefined;
let source = emptySource();
let told = false;

thread.onMessage((message) => void handle(message as ToWorker));
void tellCounts();

async function handle(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case 'listen':
      await listen(message);
      return;
    case 'changes':
      source = withChanges(source, message.changes);
      told = true;
      apply();
      return;
    case 'count':
      await tellCount(message.id);
      return;
    case 'stop':
      stopping.abort();
      await plane?.stop();
      await tellCount(0);
      thread.close();
      return;
  }
}

async function listen({ id, addresses: { http, https } }: Extract<ToWorker, { kind: 'listen' }>): Promise<void> {
  const { flags, ticketKeys, logs, index, limits, ...rest } = data;
  try {
    plane = await startIngressPlane({
      ...flags,
      ...rest,
      ticketKeys: Buffer.from(ticketKeys),
      limits: new LimitState(limits, index),
      reusePort: true,
      ...(http ? { http } : {}),
      ...(https ? { https } : {}),
      log,
      metrics: tally,
      trafficCounts: traffic,
      controlMetrics: createTally(),
      ...(logs ? { accessLog: (text) => post({ kind: 'access', text }) } : {}),
      clock: systemClock,
    });
  } catch (error) {
    if (!(error instanceof IngressListenError)) throw error;
    const { code, message } = (error.cause ?? error) as NodeJS.ErrnoException;
    post({ kind: 'refused', id, listen: error.listen, scheme: error.scheme, code, message });
    return;
  }
  apply();
  post({ kind: 'listening', id, addresses: plane.addresses });
}

function apply(): void {
  if (!plane || !told) return;
  plane.update(snapshotOf(source));
  post({ kind: 'applied', revision: source.revision });
}

async function tellCount(id: number): Promise<void> {
  const counts = plane?.counts ?? { active: 0, busy: 0, accepted: 0, upstream: 0, ejected: 0 };
  post({ kind: 'counted', id, families: await tally.families(), counts, traffic: traffic.take() });
}

async function tellCounts(): Promise<void> {
  while (!stopping.signal.aborted) {
    await systemClock.sleep(COUNT_MS, stopping.signal);
    if (!stopping.signal.aborted) await tellCount(0);
  }
}
