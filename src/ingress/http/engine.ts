import { Ranges } from './chunked.ts';
import type { Deadlines, Expiring } from './deadlines.ts';
import type { EngineHost } from './forward.ts';
import { FieldBlock } from './hpack.ts';
import { OutputBuffers } from './http2-output.ts';
import { DEFAULT_RULES, type MessageRules } from './message-rules.ts';
import { RequestHead } from './request-head.ts';
import { ResponseHead } from './response-head.ts';

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
  /** At a stop: how long a connection that has just come, or a head that is on its way, has to become a request. */
  readonly firstRequestMs: number;
  /** Requests on one connection, as nginx' keepalive_requests. */
  readonly maxRequests: number;
  /** Idle connections kept for one endpoint; as upstream-keepalive-connections of ingress-nginx. */
  readonly maxIdle: number;
  /** How long a connection to an endpoint is used, and for how many requests, before it is ended after an answer. */
  readonly upstreamAgeMs: number;
  readonly upstreamRequests: number;
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
  firstRequestMs: 1_000,
  maxRequests: 1000,
  maxIdle: 320,
  upstreamAgeMs: 3_600_000,
  upstreamRequests: 10_000,
};

/** A client connection, as the engine holds it. */
export interface OpenConnection {
  /** Something is under way on it. */
  readonly busy: boolean;
  /** Ends it if nothing is under way on it; otherwise what is under way will. Called once, when `stopping` is set. */
  stopIdle(): void;
  destroy(): void;
}

/** nginx' http2_max_concurrent_streams. */
const DEFAULT_MAX_STREAMS = 128;

/** What all connections of one thread share. */
export interface Engine {
  readonly host: EngineHost;
  /** Replaced when the configuration says so. */
  times: EngineTimes;
  readonly deadlines: Deadlines;
  /** One reader for all connections: a head is used up before the next is read. */
  readonly requestHead: RequestHead;
  readonly responseHead: ResponseHead;
  readonly ranges: Ranges;
  /** As the readers of heads have them. */
  rules: MessageRules;
  readonly connections: Set<OpenConnection>;
  /** For HTTP/2: output, and a field block on its way there. */
  readonly outputBuffers: OutputBuffers;
  readonly fieldBlock: FieldBlock;
  readonly monotonic: () => number;
  /** Of one HTTP/2 connection at one time. */
  maxStreams: number;
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
    outputBuffers: new OutputBuffers(),
    fieldBlock: new FieldBlock(),
    monotonic,
    rules: DEFAULT_RULES,
    maxStreams: DEFAULT_MAX_STREAMS,
    stopping: false,
  };
}

/** The deadline of a connection that has just come, for the head of its first request. */
export function firstDeadline({ deadlines, times, stopping }: Engine): number {
  return deadlines.now + (stopping ? times.firstRequestMs : times.headMs);
}

/** It counts as open, and its deadline is looked at, until it leaves. */
export function enter(engine: Engine, connection: OpenConnection & Expiring): void {
  engine.connections.add(connection);
  engine.deadlines.add(connection);
}

export function leave(engine: Engine, connection: OpenConnection & Expiring): void {
  engine.connections.delete(connection);
  engine.deadlines.remove(connection);
}

/** From the next head on. */
export function setRules(engine: Engine, rules: MessageRules): void {
  engine.rules = rules;
  engine.requestHead.rules = rules;
  engine.responseHead.keepsServer = rules.backendServer;
}
