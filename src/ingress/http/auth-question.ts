import { Buffer } from 'node:buffer';
import type { Engine } from './engine.ts';
import type { AuthQuestion, Verdict } from './forward.ts';
import { textOf } from './octets.ts';
import type { ResponseHead } from './response-head.ts';
import type { UpstreamConnection, UpstreamUser } from './upstream.ts';

const ALWAYS = ['set-cookie', 'www-authenticate'];
const NO_VERDICT: Verdict = { status: 0, fields: new Map() };

/** Asks once, and again on a new connection when a kept one turns out to be dead. */
export class AuthAsking implements UpstreamUser {
  readonly #engine: Engine;
  readonly #question: AuthQuestion;
  readonly #text: string;
  readonly #done: (verdict: Verdict) => void;
  #connection: UpstreamConnection | undefined;
  #reused: boolean;
  #partial: Buffer | undefined;
  #over = false;

  constructor(engine: Engine, question: AuthQuestion, text: string, done: (verdict: Verdict) => void) {
    this.#engine = engine;
    this.#question = question;
    this.#text = text;
    this.#done = done;
    const idle = question.pool.takeIdle(this);
    this.#reused = idle !== undefined;
    this.#connection = idle;
    if (idle) this.#send();
    else this.#connection = question.pool.open(this, question.connectMs);
  }

  /** No verdict is wanted any more. */
  cancel(): void {
    this.#over = true;
    this.#drop();
  }

  onUpstreamReady(): void {
    this.#send();
  }

  onUpstreamFailed(): void {
    this.#connection = undefined;
    this.#finish(NO_VERDICT);
  }

  onUpstreamData(bytes: Buffer, length: number): void {
    const all = this.#partial ? Buffer.concat([this.#partial, bytes.subarray(0, length)]) : bytes;
    const end = this.#partial ? all.length : length;
    this.#partial = undefined;
    const head = this.#engine.responseHead;
    let at = 0;
    for (;;) {
      const result = at < end ? head.read(all, at, end, this.#question.method) : 'more';
      if (result === 'more') {
        this.#partial = Buffer.from(all.subarray(at, end));
        return;
      }
      if (result === 'bad' || head.status === 101) {
        this.#drop();
        this.#finish(NO_VERDICT);
        return;
      }
      at = head.end;
      if (head.status < 200) continue;
      const verdict = { status: head.status, fields: this.#fieldsOf(head, all) };
      this.#leave(head, at, end);
      this.#finish(verdict);
      return;
    }
  }

  onUpstreamEnd(): void {
    this.#drop();
    this.#lost();
  }

  onUpstreamClosed(): void {
    this.#connection = undefined;
    this.#lost();
  }

  onUpstreamDrain(): void {}

  onUpstreamTimeout(): void {
    this.#drop();
    this.#finish(NO_VERDICT);
  }

  #send(): void {
    const connection = this.#connection;
    if (!connection) return;
    connection.stream.write(this.#text, 'latin1');
    connection.deadline = this.#engine.deadlines.now + this.#question.readMs;
  }

  #lost(): void {
    if (this.#over) return;
    if (!this.#reused || this.#partial) {
      this.#finish(NO_VERDICT);
      return;
    }
    this.#reused = false;
    this.#connection = this.#question.pool.open(this, this.#question.connectMs);
  }

  #fieldsOf({ fields }: ResponseHead, bytes: Buffer): Map<string, readonly string[]> {
    const found = new Map<string, string[]>();
    for (let i = 0; i < fields.count; i++) {
      const name = textOf(bytes, fields.lineStart[i], fields.nameEnd[i]).toLowerCase();
      if (!ALWAYS.includes(name) && !this.#question.wanted.includes(name)) continue;
      const values = found.get(name) ?? [];
      values.push(fields.value(bytes, i));
      found.set(name, values);
    }
    return found;
  }

  /** The body is not wanted: the connection is kept when the body is here in full. */
  #leave(head: ResponseHead, start: number, end: number): void {
    const connection = this.#connection;
    this.#connection = undefined;
    const whole =
      (head.body === 'none' && start === end) || (head.body === 'length' && end - start === head.contentLength);
    if (whole && head.keepAlive) connection?.endpoint.giveBack(connection, head.keepAliveSeconds);
    else connection?.destroy();
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.destroy();
  }

  #finish(verdict: Verdict): void {
    if (this.#over) return;
    this.#over = true;
    this.#done(verdict);
  }
}
