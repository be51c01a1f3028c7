/** Bytes thrown away after the last answer, before the connection is cut. */
const MAX_BYTES = 256 * 1024;

/**
 * The end of a client's connection after its last answer: what the client still sends is read and thrown away, so that the answer is not lost to
 * a reset (RFC 9112 section 9.6), within a bound; the time for it is the connection's deadline.
 */
export class Lingering {
  readonly #connection: { destroy(): void };
  #bytes = 0;

  constructor(connection: { destroy(): void }) {
    this.#connection = connection;
  }

  take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_BYTES) this.#connection.destroy();
  }
}
