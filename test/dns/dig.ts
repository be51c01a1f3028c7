// `dig` as an independent client.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface DigReply {
  /** NOERROR, NXDOMAIN, …; undefined when no reply came. */
  readonly status: string | undefined;
  /** Such as `qr aa rd`. */
  readonly flags: string;
  /** Records with single spaces. */
  readonly answer: readonly string[];
  readonly authority: readonly string[];
  readonly additional: readonly string[];
  /** What dig says of EDNS, such as `version: 0, flags: do; udp: 1232`. */
  readonly edns: string | undefined;
  /** Bytes of the message. */
  readonly size: number;
  readonly text: string;
}

export interface Server {
  readonly address: string;
  readonly port: number;
}

/** Asks once, without retries. dig ends with a failure where no reply comes; then `status` is undefined. */
export async function dig(server: Server, ...args: readonly string[]): Promise<DigReply> {
  const fixed = [`@${server.address}`, '-p', String(server.port), '+time=3', '+tries=1', '+nocookie'];
  const text = await run('dig', [...fixed, ...args], { timeout: 15_000 }).then(
    (done) => done.stdout,
    (error: { readonly stdout?: string }) => error.stdout ?? '',
  );
  return {
    status: /status: ([A-Z]+)/.exec(text)?.[1],
    flags: /flags: ([a-z ]+);/.exec(text)?.[1]?.trim() ?? '',
    answer: section(text, 'ANSWER'),
    authority: section(text, 'AUTHORITY'),
    additional: section(text, 'ADDITIONAL'),
    edns: /; EDNS: (.*)/.exec(text)?.[1],
    size: Number(/MSG SIZE {2}rcvd: ([0-9]+)/.exec(text)?.[1] ?? 0),
    text,
  };
}

function section(text: string, name: string): string[] {
  const start = text.indexOf(`;; ${name} SECTION:\n`);
  if (start < 0) return [];
  const body = text.slice(text.indexOf('\n', start) + 1);
  return body
    .slice(0, body.indexOf('\n\n'))
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith(';'))
    .map((line) => line.replace(/\s+/g, ' '));
}
