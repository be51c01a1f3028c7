import type { ClientEnd } from './client-end.ts';
import type { UpstreamConnection } from './upstream.ts';

/** Bytes both ways after an upgrade, until both sides have ended or nothing moved for `idleMs`. */
export class Tunnel {
  /** Bytes from the client, and to it. */
  received = 0;
  sent = 0;
  readonly #client: ClientEnd;
  readonly #upstream: UpstreamConnection;
  readonly #idleMs: number;
  #ends = 0;

  constructor(client: ClientEnd, upstream: UpstreamConnection, idleMs: number) {
    this.#client = client;
    this.#upstream = upstream;
    this.#idleMs = idleMs;
    upstream.deadline = Number.POSITIVE_INFINITY;
    this.touch();
  }

  /** Both sides have ended. */
  get over(): boolean {
    return this.#ends >= 2;
  }

  touch(): void {
    this.#client.touch(this.#idleMs);
  }

  fromClient(chunk: Buffer): void {
    this.touch();
    this.received += chunk.length;
    if (!this.#upstream.stream.write(chunk)) this.#client.pause();
  }

  /** `bytes` is only good during the call. */
  fromBackend(bytes: Buffer, length: number): void {
    this.touch();
    this.sent += length;
    if (!this.#client.write(Buffer.from(bytes.subarray(0, length)))) this.#upstream.stream.pause();
  }

  clientDrained(): void {
    this.touch();
    this.#upstream.stream.resume();
  }

  backendDrained(): void {
    this.touch();
    this.#client.resume();
  }

  clientEnded(): void {
    this.#upstream.stream.end();
    this.#ends++;
  }

  backendEnded(): void {
    this.#client.endTunnel();
    this.#ends++;
  }
}
