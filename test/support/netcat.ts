// One `nc` in a namespace, as one end of a connection: what it is told it sends, what it hears it gives.

import { spawn } from 'node:child_process';
import { SLOWNESS } from './slowness.ts';
import { until } from './until.ts';

export class Netcat {
  readonly #child;
  readonly #closed: Promise<void>;
  #heard = '';

  /** `words`: as for nc(1). */
  constructor(namespace: string, ...words: readonly string[]) {
    this.#child = spawn('ip', ['netns', 'exec', namespace, 'nc', '-n', ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#heard += text;
    });
    this.#child.stdin.on('error', () => {});
    this.#closed = new Promise((resolve) => this.#child.once('close', () => resolve()));
  }

  say(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Resolves with all that the other side has said, as soon as this is among it. */
  heard(text: string): Promise<string> {
    return until(
      () => this.#heard.includes(text) && this.#heard,
      10_000 * SLOWNESS,
      () => `"${text}" was not heard, only "${this.#heard}"`,
    );
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }
}
