// The API server for tests inside a network namespace, as the test sees it.

import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ApiServerReply, ApiServerRequest } from './child.ts';
import { NODE } from '../node-command.ts';
import type { Json } from './json.ts';

const CHILD = fileURLToPath(new URL('./child.ts', import.meta.url));

export class RemoteApiServer {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, () => void>();
  #nextId = 1;

  private constructor(child: ChildProcess, url: string, exited: Promise<void>) {
    this.#child = child;
    this.url = url;
    this.#exited = exited;
    child.on('message', (message) => {
      const reply = message as ApiServerReply;
      if ('done' in reply) this.#waiting.get(reply.done)?.();
    });
  }

  /** Listens on loopback of the namespace. */
  static async start(namespace: string): Promise<RemoteApiServer> {
    const child = spawn('ip', ['netns', 'exec', namespace, ...NODE, CHILD], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const url = await new Promise<string>((resolve, reject) => {
      child.once('message', (message) => {
        const reply = message as ApiServerReply;
        if ('url' in reply) resolve(reply.url);
      });
      child.once('exit', (code) => reject(new Error(`the API server ended with ${String(code)}`)));
    });
    return new RemoteApiServer(child, url, exited);
  }

  /** Creates or replaces objects; resolves when they are there. */
  apply(...objects: readonly Json[]): Promise<void> {
    const id = this.#nextId++;
    return new Promise((resolve) => {
      this.#waiting.set(id, () => {
        this.#waiting.delete(id);
        resolve();
      });
      this.#child.send({ id, objects } satisfies ApiServerRequest);
    });
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
