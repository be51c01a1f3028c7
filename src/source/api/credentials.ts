// Who we are to the API server, and where it is. The library that reads kubeconfigs and runs their plugins costs far
// more memory than everything else here, so it runs in a process of its own that ends when it has answered.

import { messageOf } from '../../lib/message-of.ts';
import { askChildModule } from '../../system/child-module.ts';
import { systemFiles } from '../../system/files.ts';
import { SourceError } from '../source-error.ts';

/** Where the API server and the credentials come from. */
export interface ApiTarget {
  /** `--kubeconfig`. */
  readonly kubeconfig?: string | undefined;
  /** Of the kubeconfig; its current one when left out. */
  readonly context?: string | undefined;
  /** Paths of PEM files for `master`. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  /** `--master`: the server's URL; it wins over that of the kubeconfig, and needs none. */
  readonly master?: string | undefined;
  /** Put before the paths of the service account's files; only tests give one. */
  readonly serviceAccountRoot?: string | undefined;
}

export interface Credentials {
  readonly server: string;
  readonly caPem: string | undefined;
  readonly certPem: string | undefined;
  readonly keyPem: string | undefined;
  readonly token: string | undefined;
  /** A file that holds the token now; it is replaced from time to time. */
  readonly tokenFile: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly impersonateUser: string | undefined;
  readonly serverName: string | undefined;
  readonly skipTlsVerify: boolean;
  /** Milliseconds since 1970; undefined when it is not known to end. */
  readonly expiresAt: number | undefined;
}

/** What the child is asked. */
export type CredentialsQuestion =
  | { readonly kind: 'kubeconfig'; readonly file: string; readonly context: string | undefined }
  | { readonly kind: 'in-cluster'; readonly root: string };

/** What it answers. */
export type CredentialsAnswer =
  | { readonly kind: 'credentials'; readonly credentials: Credentials }
  | { readonly kind: 'invalid'; readonly message: string }
  | { readonly kind: 'failed'; readonly message: string };

/** A plugin may have to ask a server of its own. */
const TIMEOUT_MS = 60_000;

export type ReadCredentials = (target: ApiTarget) => Promise<Credentials>;

/** Resolves the credentials anew. Throws a SourceError that says what is wrong where, and the mend. */
export const readCredentials: ReadCredentials = async (target) => {
  const question = questionOf(target);
  const credentials = question ? await ask(question) : await fromFiles(target);
  const server = target.master ?? credentials.server;
  checkServer(server, target.master === undefined ? place(target) : '--master');
  return { ...credentials, server };
};

function questionOf(target: ApiTarget): CredentialsQuestion | undefined {
  if (target.kubeconfig !== undefined) return { kind: 'kubeconfig', file: target.kubeconfig, context: target.context };
  if (target.master !== undefined) return undefined;
  if (!process.env['KUBERNETES_SERVICE_HOST'] || !process.env['KUBERNETES_SERVICE_PORT']) {
    throw new SourceError(
      'not-in-cluster',
      'no API server to read from: this does not run in a cluster (KUBERNETES_SERVICE_HOST is not set): ' +
        'give --kubeconfig FILE, --master URL, or --manifests DIR to run without a cluster',
    );
  }
  return { kind: 'in-cluster', root: target.serviceAccountRoot ?? '' };
}

function place(target: ApiTarget): string {
  return target.kubeconfig === undefined ? 'the service account' : `kubeconfig ${target.kubeconfig}`;
}

async function ask(question: CredentialsQuestion): Promise<Credentials> {
  const where = question.kind === 'kubeconfig' ? `kubeconfig ${question.file}` : 'the service account of this Pod';
  let answer: CredentialsAnswer;
  try {
    answer = (await askChildModule(new URL('credentials-child.ts', import.meta.url), question, {
      timeoutMs: TIMEOUT_MS,
    })) as CredentialsAnswer;
  } catch (error) {
    const reason = messageOf(error);
    throw new SourceError('credentials-failed', `${where}: the credentials cannot be resolved: ${reason}`, error);
  }
  switch (answer.kind) {
    case 'credentials':
      return answer.credentials;
    case 'invalid':
      throw new SourceError('kubeconfig-invalid', `${where}: ${answer.message}`);
    case 'failed':
      throw new SourceError('credentials-failed', `${where}: ${answer.message}`);
  }
}

/** Those of the files that are named, or none. */
async function fromFiles({ master = '', tls }: ApiTarget): Promise<Credentials> {
  const nobody = anonymous(master);
  if (!tls) return nobody;
  const read = async (path: string): Promise<string> => {
    try {
      return await systemFiles.readText(path);
    } catch (error) {
      throw new SourceError('credentials-failed', `the file ${path} cannot be read: ${messageOf(error)}`, error);
    }
  };
  return { ...nobody, certPem: await read(tls.cert), keyPem: await read(tls.key), caPem: await read(tls.ca) };
}

function anonymous(server: string): Credentials {
  return {
    server,
    caPem: undefined,
    certPem: undefined,
    keyPem: undefined,
    token: undefined,
    tokenFile: undefined,
    username: undefined,
    password: undefined,
    impersonateUser: undefined,
    serverName: undefined,
    skipTlsVerify: false,
    expiresAt: undefined,
  };
}

function checkServer(server: string, where: string): void {
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return;
  throw new SourceError(
    'server-url-invalid',
    `${where}: ${JSON.stringify(server)} is no URL of an API server: write it as https://HOST:PORT`,
  );
}
