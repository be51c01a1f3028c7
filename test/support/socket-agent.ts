// The test's side of sockets.pl: turns calls into lines, and lines into outcomes.

import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { SLOWNESS } from './slowness.ts';

export interface ServeOptions {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  /** Every address of the namespace when left out. */
  readonly address?: string;
  readonly port: number;
  /** What the server answers with. */
  readonly name: string;
  /** TCP: answers whatever comes, for as long as the client stays, in place of one answer and an end. */
  readonly keeps?: boolean;
  /** TCP: sends so many bytes in place of an answer, a multiple of 64 (`download.ts` says which), and ends. */
  readonly sends?: number;
}

export interface ConnectOptions {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly address: string;
  readonly port: number;
  /** The address to come from, when the namespace has several. */
  readonly source?: string;
  /** The port to come from. To the kernel the same one again is, for UDP, the same flow, as if one socket had gone on sending. */
  readonly sourcePort?: number;
  /** Ten seconds, which no answer takes: to be given where silence is what is expected. It is longer on a machine that says that it is slow. */
  readonly timeoutMs?: number;
}

export type Outcome =
  /** `by` is the server's name, `peerSeen` the client address that the server saw (shows masquerading). */
  | { readonly kind: 'answered'; readonly by: string; readonly peerSeen: string }
  | { readonly kind: 'refused' }
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'silence' };

type Reply = Outcome | { readonly kind: 'done' } | { readonly kind: 'error'; readonly message: string };

/** Its pipes are sockets: node makes them so. */
type Child = ChildProcessByStdio<Socket, Socket, null>;

const PROGRAM = fileURLToPath(new URL('./sockets.pl', import.meta.url));

/** One process for all namespaces of this process, started when first used; it ends with this one. */
class SocketAgent {
  #child: Child | undefined;
  #nextId = 1;
  readonly #waiting = new Map<number, { readonly namespace: string; readonly resolve: (reply: Reply) => void }>();

  async serve(namespace: string, options: ServeOptions): Promise<{ stop(): Promise<void> }> {
    const { protocol, address = '-', port, name, keeps = false, sends = 0 } = options;
    const { id, reply } = this.#ask('serve', namespace, [protocol, address, port, name, keeps ? 1 : 0, sends]);
    const { kind } = await reply;
    if (kind !== 'done') throw new Error(`in ${namespace}: a server was answered with ${kind}`);
    return {
      stop: async () => {
        await this.#ask('drop', String(id), []).reply;
      },
    };
  }

  async connect(namespace: string, options: ConnectOptions): Promise<Outcome> {
    const { protocol, address, port, source = '-', sourcePort = '-', timeoutMs = 10_000 } = options;
    const { id, reply } = this.#ask('connect', namespace, [protocol, address, port, source, sourcePort]);
    const timer = setTimeout(() => {
      void this.#ask('drop', String(id), []).reply.catch(() => undefined);
      this.#waiting.get(id)?.resolve({ kind: 'silence' });
    }, timeoutMs * SLOWNESS);
    try {
      const outcome = await reply;
      if (outcome.kind === 'done') throw new Error('a connection was answered with done');
      return outcome;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes every socket in the namespace. */
  async leave(namespace: string): Promise<void> {
    for (const waiting of this.#waiting.values()) {
      if (waiting.namespace === namespace) waiting.resolve({ kind: 'error', message: 'the namespace is gone' });
    }
    if (this.#child) await this.#ask('leave', namespace, []).reply;
  }

  #ask(
    verb: string,
    namespace: string,
    words: readonly (string | number)[],
  ): { readonly id: number; readonly reply: Promise<Exclude<Reply, { readonly kind: 'error' }>> } {
    const id = this.#nextId++;
    const reply = new Promise<Exclude<Reply, { readonly kind: 'error' }>>((resolve, reject) => {
      this.#waiting.set(id, {
        namespace,
        resolve: (reply) => {
          this.#waiting.delete(id);
          if (this.#waiting.size === 0) this.#child?.stdout.unref();
          if (reply.kind === 'error') reject(new Error(`in ${namespace}: ${reply.message}`));
          else resolve(reply);
        },
      });
    });
    this.#write([verb, id, namespace, ...words].join(' '));
    return { id, reply };
  }

  #write(line: string): void {
    this.#child ??= this.#start();
    // While an answer is awaited, and only then, it keeps this process alive.
    this.#child.stdout.ref();
    this.#child.stdin.write(`${line}\n`);
  }

  #start(): Child {
    const child = spawn('perl', [PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] }) as unknown as Child;
    createInterface(child.stdout).on('line', (line) => {
      const [id = '', ...words] = line.split(' ');
      this.#waiting.get(Number(id))?.resolve(replyOf(words));
    });
    child.once('close', () => {
      this.#child = undefined;
      for (const { resolve } of this.#waiting.values()) resolve({ kind: 'error', message: 'sockets.pl ended' });
    });
    child.unref();
    child.stdin.unref();
    return child;
  }
}

export const socketAgent = new SocketAgent();

function replyOf([kind = '', ...rest]: readonly string[]): Reply {
  const [by = '', peerSeen = ''] = rest;
  switch (kind) {
    case 'answered':
      return { kind, by, peerSeen };
    case 'done':
    case 'refused':
    case 'unreachable':
    case 'silence':
      return { kind };
    default:
      return { kind: 'error', message: rest.join(' ') };
  }
}
