// The two halves of one request, as they know each other: the client's end, and the request that is under way for it.

import type { Answer } from './answer.ts';
import type { AnswerBodyFlow } from './answer-body.ts';
import type { Origin } from './forward.ts';
import type { ResponseHead } from './response-head.ts';

/** What an exchange answers to: an HTTP/1.1 connection, or one stream of an HTTP/2 connection. */
export interface ClientEnd {
  /** Of the connection. */
  readonly origin: Origin;
  /** Request bodies come, and answer bodies go, without framing of their own (HTTP/2). */
  readonly frames: boolean;
  /** Whether the answer under way may leave the connection open. */
  readonly mayKeepAlive: boolean;
  /** It has been given more than it takes. */
  readonly needsDrain: boolean;
  /** Something moved: the client has its time anew. */
  touch(ms: number): void;
  waitForNothing(): void;
  pause(): void;
  resume(): void;
  /** Body bytes that are here: `take` gets them and returns the offset behind what it used. */
  drainPending(take: (bytes: Buffer, start: number, end: number) => number): void;

  /** With `frames`: all of the body was taken, and there is no more of it. */
  readonly bodyEnded: boolean;

  /** An interim answer (1xx, but 101). */
  sendInterim(head: ResponseHead, bytes: Buffer): void;
  /**
   * Begins the answer; returns text that stands in front of its first bytes and is still to be written. `fields` are
   * further lines. Undefined when the client cannot be given such a head.
   */
  begin(
    head: ResponseHead,
    bytes: Buffer,
    fields: string,
    body: AnswerBodyFlow,
    keepAlive: boolean,
  ): string | undefined;
  writeText(text: string): boolean;
  /** False when it has enough for now; `onClientDrain` follows. */
  write(data: Uint8Array): boolean;
  /** A whole answer of our own. */
  sendAnswer(answer: Answer, method: string, keepAlive: boolean): void;
  /** The answer is complete. Without keep-alive the connection ends, and what the client still sends is thrown away. */
  exchangeDone(keepAlive: boolean): void;

  /** The backend has switched protocols: from now on bytes, both ways. */
  startTunnel(head: ResponseHead, bytes: Buffer): void;
  /** No more bytes for the client of a tunnel. */
  endTunnel(): void;

  destroy(): void;
  /** Cuts the connection so that the client cannot take what it got for the whole answer. */
  reset(): void;
}

/** What a client's end tells the request that is under way for it. */
export interface RequestUnderWay {
  readonly wantsBody: boolean;
  onClientData(): void;
  onClientDrain(): void;
  onClientGone(): void;
  onClientTimeout(): void;
  onTunnelData(chunk: Buffer): void;
  onTunnelEnd(): void;
}
