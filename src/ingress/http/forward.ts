// What is decided about a request, and what became of it: the words between the routes and the engine.

import type { X509Certificate } from 'node:crypto';
import type { SecretRecord } from '../../model/records.ts';
import type { Change } from '../annotations/answer-rewrite.ts';
import type { TransferSettings } from '../annotations/transfer.ts';
import type { Targets } from '../balance.ts';
import type { Location } from '../host-routes.ts';
import type { Answer } from './answer.ts';
import type { Mirror } from './mirror.ts';
import type { RequestHead } from './request-head.ts';
import type { EndpointPool } from './upstream.ts';

/** The connection that a request came on. */
export interface ClientFacts {
  readonly secure: boolean;
  readonly remoteAddress: string;
  readonly localPort: number;
  /** Of a TLS connection. */
  readonly peer?: PeerFacts | undefined;
  /** In the place of Host, where a trusted peer says so. */
  readonly host?: string | undefined;
}

/** Where a request comes from, when a peer stands for its client. */
export interface Origin extends ClientFacts {
  /** The forwarding fields, as lines. */
  readonly forwarding: string;
}

/** The other end of a TLS connection. */
export interface PeerFacts {
  /** The Secret whose authorities a certificate was asked for by; undefined where none was. */
  readonly authorities: SecretRecord | undefined;
  readonly certificate: X509Certificate | undefined;
  /** Why the certificate is not valid. */
  readonly error: string | undefined;
  /** Certificates from the peer's to the authority's. */
  readonly chainLength: number;
}

/** A request goes on to one of these targets; none of them means 503. */
export interface Forward {
  readonly location: Location;
  readonly targets: Targets<EndpointPool>;
  readonly transfer: TransferSettings;
  /** Undefined where the request and its answer go on as they are. */
  readonly edit?: Edit;
  /** For every answer, beside what `edit` says. */
  readonly lines?: AnswerLines;
  readonly errors?: ErrorPages;
  /** The backend of the canary, where this is it. */
  readonly canary?: string;
}

/** Pages that another Service gives in the place of answers of these statuses, whether a backend's or our own. */
export interface ErrorPages {
  readonly codes: ReadonlySet<number>;
  readonly targets: Targets<EndpointPool>;
  /** The whole request for the page. */
  text(status: number, requestId: string): string;
}

/** Names of answer fields that are taken away, in lower case, and lines that come in their place. */
export interface AnswerLines {
  readonly dropped: readonly string[];
  readonly fields: string;
}

/** A check that takes time, before a request goes on: refused, on to the question, or on to the backend. Told once. */
export type Gate = (done: (verdict: GateVerdict) => void) => void;

export type GateVerdict =
  | { readonly kind: 'refused'; readonly answer: Answer }
  | { readonly kind: 'next' }
  | { readonly kind: 'open' };

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
  /** A further line that hangs on the endpoint that answers. */
  readonly endpointField?: ((endpoint: EndpointPool) => string) | undefined;
  /** Lines that hang on the status of the answer. */
  readonly statusFields: ((status: number) => string) | undefined;
  /** What becomes of fields of a backend's answer. */
  readonly change: Change | undefined;
  /** Where the request goes as well. */
  readonly mirror: Mirror | undefined;
  /** Waited for before the question. */
  readonly gate: Gate | undefined;
  /** Asked before the request goes on; `passed` is a verdict that was remembered. */
  readonly question: AuthQuestion | undefined;
  readonly passed: Passed | undefined;
  /** Called once when the request is over, whatever became of it. */
  readonly release: (() => void) | undefined;
}

/** A request to the service that says whether another request may pass. */
export interface AuthQuestion {
  readonly pool: EndpointPool;
  /** The whole request; it has no body. */
  text(kept: string, requestId: string): string;
  readonly method: string;
  readonly connectMs: number;
  readonly readMs: number;
  /** Fields of the verdict that are wanted, by lower-case name; Set-Cookie and WWW-Authenticate come without being asked for. */
  readonly wanted: readonly string[];
  /** What becomes of the request: an answer, or lines for the backend and for the client. `status` 0: no verdict came. */
  judge(verdict: Verdict): Answer | Passed;
}

export interface Verdict {
  readonly status: number;
  /** By lower-case name, one for each line. */
  readonly fields: ReadonlyMap<string, readonly string[]>;
}

export interface Passed {
  readonly kind: 'passed';
  readonly fields: string;
  /** Lines for the client, with an answer below 400 or with every answer. */
  readonly cookies: string;
  readonly cookiesAlways: boolean;
}

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
  /** To the connection (0 on a kept one), and from the first attempt to the end of the answer; undefined without an endpoint. */
  readonly connectDuration?: number | undefined;
  readonly upstreamDuration?: number | undefined;
  /** How often it was sent again. */
  readonly retries?: number;
  /** The backend of the canary that took it. */
  readonly canary?: string | undefined;
  /** What the access log needs of the head. */
  readonly captured?: readonly string[] | undefined;
}

/** Of a request that could not be read: nothing of it is known. */
export function refusedRecord(status: number, remoteAddress: string): RequestRecord {
  return {
    method: '',
    host: '',
    path: '',
    status,
    location: undefined,
    endpoint: undefined,
    remoteAddress,
    requestId: '',
    received: 0,
    sent: 0,
    duration: 0,
    headDuration: undefined,
  };
}

/** What the plane gives the engine: where a request goes, and a place to tell what became of it. */
export interface EngineHost {
  /** Undefined where the connection says it all. */
  origin(client: ClientFacts, head: RequestHead): Origin | undefined;
  decide(client: ClientFacts, head: RequestHead): Forward | Answer;
  record(record: RequestRecord): void;
  /** What is kept of a head for the record of its request. */
  capture?(client: ClientFacts, head: RequestHead): readonly string[] | undefined;
}
