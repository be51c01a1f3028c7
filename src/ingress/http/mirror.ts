import type { Engine } from './engine.ts';
import type { RequestCopy } from './request-sending.ts';
import type { EndpointPool, UpstreamConnection, UpstreamUser } from './upstream.ts';

/** Bytes of a body that wait for a slow mirror; then it gets no more, as the request itself must not wait for it. */
const MAX_BEHIND = 1024 * 1024;

/** Where a request goes as well. */
export interface Mirror {
  readonly pool: EndpointPool;
  readonly path: string;
  readonly query: string;
  readonly host: string;
  readonly body: boolean;
  readonly connectMs: number;
  readonly readMs: number;
}

/** The copy's head: that of the request, with an end of its connection, and without what the body's copy does not need. */
function mirrorText(text: string, { body }: Mirror): string {
  const fields = body ? /^Expect:.*\r\n/m : /^(Expect|Content-Length|Transfer-Encoding):.*\r\n/gm;
  return `${text.replace(fields, '').slice(0, -2)}Connection: close\r\n\r\n`;
}

/** `text`: the head for the mirror. The copy begins when the result is called: once the request itself is sent, after the doors. */
export function beginMirroring(engine: Engine, mirror: Mirror, text: string): () => RequestCopy {
  const head = mirrorText(text, mirror);
  return () => new Mirroring(engine, mirror, head);
}

/** The copy of one request on a connection of its own. Nothing that becomes of it is seen by anybody. */
class Mirroring implements UpstreamUser, RequestCopy {
  readonly #engine: Engine;
  readonly #mirror: Mirror;
  #connection: UpstreamConnection | undefined;
  #ready = false;
  #waiting: (string | Uint8Array)[] = [];
  #behind = 0;

  constructor(engine: Engine, mirror: Mirror, head: string) {
    this.#engine = engine;
    this.#mirror = mirror;
    this.#waiting.push(head);
    this.#connection = mirror.pool.open(this, mirror.connectMs);
  }

  /** More of the body. */
  write(data: string | Uint8Array): void {
    const connection = this.#connection;
    if (!connection || !this.#mirror.body || data.length === 0) return;
    if (this.#ready) {
      this.#send(connection, data);
      if (connection.stream.writableLength > MAX_BEHIND) this.stop();
      return;
    }
    this.#waiting.push(data);
    this.#behind += data.length;
    if (this.#behind > MAX_BEHIND) this.stop();
  }

  /** The request broke off, or nobody waits any more. */
  stop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#waiting = [];
    connection?.destroy();
  }

  onUpstreamReady(): void {
    const connection = this.#connection;
    if (!connection) return;
    this.#ready = true;
    for (const data of this.#waiting) this.#send(connection, data);
    this.#waiting = [];
  }

  onUpstreamFailed(): void {
    this.#connection = undefined;
    this.#waiting = [];
  }

  /** An answer, which nobody wants. */
  onUpstreamData(): void {}

  onUpstreamEnd(): void {
    this.stop();
  }

  onUpstreamDrain(): void {}

  onUpstreamClosed(): void {
    this.#connection = undefined;
  }

  onUpstreamTimeout(): void {
    this.stop();
  }

  #send(connection: UpstreamConnection, data: string | Uint8Array): void {
    connection.deadline = this.#engine.deadlines.now + this.#mirror.readMs;
    if (typeof data === 'string') connection.stream.write(data, 'latin1');
    else connection.stream.write(data);
  }
}
