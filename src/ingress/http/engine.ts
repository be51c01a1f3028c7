import type { TransferSettings } from '../annotations/transfer.ts';
import type { Targets } from '../balance.ts';
import type { Location } from '../route-table.ts';
import type { Answer } from './answer.ts';
import { Ranges } from './chunked.ts';
import type { AuthQuestion } from './auth-question.ts';
import type { ClientConnection } from './client-connection.ts';
import type { Deadlines } from './deadlines.ts';
import { RequestHead } from './request-head.ts';
import { ResponseHead } from './response-head.ts';
import type { EndpointPool } from './upstream.ts';

/** What became of one request, for metrics and the access log. */
export interface RequestRecord {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  /** 499 when the client went away before the answer was complete. */
  readonly status: number;
  readonly location: Location | undefined;
  readonly endpoint: EndpointPool | undefined;
  readonly remoteAddress: string;
  readonly requestId: string;
  /** Body bytes from the client and to the client. */
  readonly received: number;
  readonly sent: number;
  /** Milliseconds from the request head to the end of the answer, and to the answer's head from the backend. */
  readonly duration: number;
  readonly headDuration: number | undefined;
}

/** A request goes on to one of these targets; none of them means 503. */
export interface Forward {
  readonly location: Location;
  readonly targets: Targets<EndpointPool>;
  readonly transfer: TransferSettings;
  /** Undefined where the request and its answer go on as they are. */
  readonly edit?: Edit;
}

/** What of a request and its answer is changed on the way. */
export interface Edit {
  readonly path: string;
  readonly query: string;
  readonly host: string;
  /** Names of request fields that stay behind, in lower case; and lines that come in their place. */
  readonly dropped: readonly string[];
  readonly fields: string;
  /** The same for every answer, also for those of our own. */
  readonly answerDropped: readonly string[];
  readonly answerFields: string;
  /** Asked before the request goes on. */
  readonly question: AuthQuestion | undefined;
  /** Called once when the request is over, whatever became of it. */
  readonly release: (() => void) | undefined;
}

/** The connection that a request came on. */
export interface ClientFacts {
  readonly secure: boolean;
  readonly remoteAddress: string;
  readonly localPort: number;
}

/** What the plane gives the engine: where a request goes, and a place to tell what became of it. */
export interface EngineHost {
  decide(client: ClientFacts, head: RequestHead): Forward | Answer;
  record(record: RequestRecord): void;
}

/** Milliseconds; defaults are ingress-nginx'. */
export interface EngineTimes {
  /** A whole request head, from its first byte or from the start of the connection. */
  readonly headMs: number;
  /** Between two requests of one connection. */
  readonly keepAliveMs: number;
  /** Between two reads of a request body, or while the client takes nothing of the answer. */
  readonly clientMs: number;
  readonly connectMs: number;
  /** Until the backend's answer begins, and between two reads of it. */
  readonly upstreamMs: number;
  readonly upstreamIdleMs: number;
  /** An upgraded connection on which nothing moves. */
  readonly tunnelMs: number;
  /** How long the rest of a refused request is read and thrown away, so that the answer is not lost to a reset. */
  readonly lingerMs: number;
}

export const DEFAULT_TIMES: EngineTimes = {
  headMs: 60_000,
  keepAliveMs: 75_000,
  clientMs: 60_000,
  connectMs: 5_000,
  upstreamMs: 60_000,
  upstreamIdleMs: 60_000,
  tunnelMs: 60_000,
  lingerMs: 2_000,
};

/** What all connections of one thread share. */
export interface Engine {
  readonly host: EngineHost;
  readonly times: EngineTimes;
  readonly deadlines: Deadlines;
  /** One reader for all connections: a head is used up before the next is read. */
  readonly requestHead: RequestHead;
  readonly responseHead: ResponseHead;
  readonly ranges: Ranges;
  readonly connections: Set<ClientConnection>;
  readonly monotonic: () => number;
  /** No further request is taken on a connection. */
  stopping: boolean;
}

export function createEngine(
  host: EngineHost,
  times: EngineTimes,
  deadlines: Deadlines,
  monotonic: () => number,
): Engine {
  return {
    host,
    times,
    deadlines,
    requestHead: new RequestHead(),
    responseHead: new ResponseHead(),
    ranges: new Ranges(),
    connections: new Set(),
    monotonic,
    stopping: false,
  };
}
