import type { Clock, Timer } from '../system/clock.ts';
import { isLogged, type LogSettings } from './log-format.ts';
import type { RequestRecord } from './http/forward.ts';

const FLUSH_MS = 200;
const FLUSH_SIZE = 64 * 1024;

/** Lines of requests, written together: a write for each would cost more than the request. */
export class AccessLog {
  readonly #write: (text: string) => void;
  readonly #clock: Clock;
  #text = '';
  #timer: Timer | undefined;

  constructor(write: (text: string) => void, clock: Clock) {
    this.#write = write;
    this.#clock = clock;
  }

  record(settings: LogSettings, record: RequestRecord): void {
    if (!settings.format || !isLogged(settings, record)) return;
    this.#text += settings.format.line(record, this.#clock.now());
    if (this.#text.length >= FLUSH_SIZE) this.flush();
    else this.#timer ??= this.#clock.after(FLUSH_MS, () => this.flush());
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const text = this.#text;
    this.#text = '';
    if (text !== '') this.#write(text);
  }
}
