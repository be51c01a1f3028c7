import type { ClientEnd } from './client-end.ts';
import type { RequestHead } from './request-head.ts';
import type { ResponseHead } from './response-head.ts';

const MAX_INTERIM = 16;
const NOTHING = Buffer.alloc(0);

/** The head of one answer on its way from the backend; interim answers before it go on to the client. */
export class AnswerHeadReading {
  /** After `read` said that a head is here: `at` is the offset behind it in `bytes`, of which `length` count. */
  bytes: Buffer = NOTHING;
  at = 0;
  length = 0;
  readonly #client: ClientEnd;
  readonly #method: string;
  readonly #upgrade: boolean;
  readonly #expectContinue: boolean;
  #partial: Buffer | undefined = undefined;
  #interim = 0;

  constructor(client: ClientEnd, request: RequestHead) {
    this.#client = client;
    this.#method = request.method;
    this.#upgrade = request.upgrade;
    this.#expectContinue = request.expectContinue;
  }

  /** Something of an answer has come. */
  get begun(): boolean {
    return this.#partial !== undefined || this.#interim > 0;
  }

  /** The client has had an interim answer. */
  get toldInterim(): boolean {
    return this.#interim > 0;
  }

  /** Of another attempt. */
  restart(): void {
    this.#partial = undefined;
  }

  /** `bytes` is only good during the call; `head` is the final one, or that of a switch of protocols. */
  read(head: ResponseHead, bytes: Buffer, length: number): 'more' | 'bad' | 'head' | 'tunnel' {
    this.#take(bytes, length);
    for (;;) {
      const result = this.at < this.length ? head.read(this.bytes, this.at, this.length, this.#method) : 'more';
      if (result === 'more') {
        if (this.at < this.length) this.#partial = Buffer.from(this.bytes.subarray(this.at, this.length));
        return 'more';
      }
      // Nobody asked for another protocol.
      const unasked = head.status === 101 && !this.#upgrade;
      if (result === 'bad' || unasked || (head.status < 200 && ++this.#interim > MAX_INTERIM)) return 'bad';
      this.at = head.end;
      if (head.status === 101) return 'tunnel';
      if (head.status >= 200) return 'head';
      // RFC 9110 section 15.2: an interim answer goes on, but not a 100 that nobody waits for.
      if (head.status !== 100 || this.#expectContinue) this.#client.sendInterim(head, this.bytes);
    }
  }

  #take(bytes: Buffer, length: number): void {
    const joined = this.#partial && Buffer.concat([this.#partial, bytes.subarray(0, length)]);
    this.#partial = undefined;
    this.bytes = joined ?? bytes;
    this.at = 0;
    this.length = joined?.length ?? length;
  }
}
