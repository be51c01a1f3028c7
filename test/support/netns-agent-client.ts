// The test's side of the agent that lives in a namespace: it starts the process, and turns calls into messages.

import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DownloadOptions, DownloadState } from './download.ts';
import type { HammerOptions, HammerResult } from './hammer.ts';
import { NODE } from './node-command.ts';
import type { TalkOptions, TalkState } from './talk.ts';

export type AgentRequest =
  | { readonly id: number; readonly kind: 'hammer'; readonly options: HammerOptions }
  | { readonly id: number; readonly kind: 'hammered'; readonly hammer: number }
  | { readonly id: number; readonly kind: 'talk'; readonly options: TalkOptions }
  | { readonly id: number; readonly kind: 'talk state'; readonly talk: number }
  | { readonly id: number; readonly kind: 'talk close'; readonly talk: number }
  | { readonly id: number; readonly kind: 'download'; readonly options: DownloadOptions }
  | {
      readonly id: number;
      readonly kind: 'download state' | 'download hurry' | 'download close';
      readonly download: number;
    };

export type AgentReply =
  | { readonly id: number; readonly kind: 'done' }
  | { readonly id: number; readonly kind: 'hammered'; readonly result: HammerResult }
  | { readonly id: number; readonly kind: 'talk state'; readonly state: TalkState }
  | { readonly id: number; readonly kind: 'download state'; readonly state: DownloadState }
  | { readonly id: number; readonly kind: 'error'; readonly message: string };

/** A request before it has its number. */
type Unnumbered<R> = R extends { readonly id: number } ? Omit<R, 'id'> : never;

const AGENT = fileURLToPath(new URL('./netns-agent.ts', import.meta.url));

export class NetnsAgent {
  readonly #namespace: string;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #nextId = 1;
  readonly #waiting = new Map<number, (reply: AgentReply) => void>();

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  /** Connects again and again, until `stop`, which gives the counts. */
  async hammer(options: HammerOptions): Promise<{ stop(): Promise<HammerResult> }> {
    const { id } = await this.#ask({ kind: 'hammer', options });
    return {
      stop: async () => {
        const reply = await this.#ask({ kind: 'hammered', hammer: id });
        if (reply.kind !== 'hammered') throw new Error(`the agent answered the end of a hammer with ${reply.kind}`);
        return reply.result;
      },
    };
  }

  /** One TCP connection that goes on until `close`. */
  async talk(options: TalkOptions): Promise<{ state(): Promise<TalkState>; close(): Promise<void> }> {
    const { id } = await this.#ask({ kind: 'talk', options });
    return {
      state: async () => {
        const reply = await this.#ask({ kind: 'talk state', talk: id });
        if (reply.kind !== 'talk state') throw new Error(`the agent answered for a talk with ${reply.kind}`);
        return reply.state;
      },
      close: async () => {
        await this.#ask({ kind: 'talk close', talk: id });
      },
    };
  }

  /** One TCP connection that reads slowly what the server sends, until it is hurried or closed. */
  async download(
    options: DownloadOptions,
  ): Promise<{ state(): Promise<DownloadState>; hurry(): Promise<void>; close(): Promise<void> }> {
    const { id } = await this.#ask({ kind: 'download', options });
    return {
      state: async () => {
        const reply = await this.#ask({ kind: 'download state', download: id });
        if (reply.kind !== 'download state') throw new Error(`the agent answered for a download with ${reply.kind}`);
        return reply.state;
      },
      hurry: async () => {
        await this.#ask({ kind: 'download hurry', download: id });
      },
      close: async () => {
        await this.#ask({ kind: 'download close', download: id });
      },
    };
  }

  async close(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.exitCode === null) child.kill('SIGKILL');
    await this.#exited;
  }

  #ask(request: Unnumbered<AgentRequest>): Promise<AgentReply> {
    const child = (this.#child ??= this.#start());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (reply) => {
        this.#waiting.delete(id);
        if (reply.kind === 'error') reject(new Error(`in ${this.#namespace}: ${reply.message}`));
        else resolve(reply);
      });
      child.send({ ...request, id });
    });
  }

  #start(): ChildProcess {
    const args = ['netns', 'exec', this.#namespace, ...NODE, AGENT];
    const child = spawn('ip', args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    child.on('message', (reply) => {
      const message = reply as AgentReply;
      this.#waiting.get(message.id)?.(message);
    });
    this.#exited = new Promise((resolve) => {
      child.once('exit', () => {
        for (const [id, answer] of this.#waiting) answer({ id, kind: 'error', message: 'the agent ended' });
        resolve();
      });
    });
    return child;
  }
}
