// Running other programs: `nft`, `iptables-restore`, `conntrack`, `ip`. The only door to child processes for tools.

export interface ExecOptions {
  /** Written to standard input, which is then closed. */
  readonly input?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  /** -1 when the program could not be started or was ended by a signal. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The program is not on this machine. */
  readonly notFound: boolean;
  readonly timedOut: boolean;
}

export interface Exec {
  /** Runs to the end. A failure is a result, not an exception. */
  run(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult>;
}

/** Distributions keep these tools in /usr/sbin, which is not on every user's PATH. */
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Where tools are looked for. */
export function toolPath(): string {
  return [process.env['PATH'] ?? '', ...SBIN].join(':');
}

export const systemExec: Exec = {
  async run(file, args, options = {}) {
    // Loaded when the first tool is run: a role that runs none does not pay for it.
    const { execa } = await import('execa');
    const result = await execa(file, [...args], {
      reject: false,
      stripFinalNewline: false,
      maxBuffer: 1 << 30,
      env: { PATH: toolPath(), LC_ALL: 'C' },
      ...(options.input === undefined ? { stdin: 'ignore' } : { input: options.input }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    });
    return {
      exitCode: result.exitCode ?? -1,
      stdout: typeof result.stdout === 'string' ? result.stdout : '',
      stderr: typeof result.stderr === 'string' ? result.stderr : '',
      notFound: result.code === 'ENOENT',
      timedOut: result.timedOut,
    };
  },
};
