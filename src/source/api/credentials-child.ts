// Runs in a process of its own (see credentials.ts): takes one question, answers it, and ends.

import { messageOf } from '../../lib/message-of.ts';
import { dirname, resolve } from 'node:path';
import { bufferFromFileOrString, KubeConfig, type Cluster } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { fieldOf, textOf } from './raw.ts';
import { systemFiles } from '../../system/files.ts';
import type { CredentialsAnswer, CredentialsQuestion } from './credentials.ts';

/** Impersonation that we do not send: with less than was asked for we would act with other rights, so it is refused. */
const IMPERSONATION_NOT_SENT = ['as-groups', 'as-uid', 'as-user-extra'];

type RequestOptions = Exclude<Parameters<KubeConfig['applyToHTTPSOptions']>[0], undefined>;

process.once('message', (question: CredentialsQuestion) => {
  void answer(question).then((value) => process.send?.(value, () => process.disconnect()));
});

/** What keeps a kubeconfig from being used: said behind its path. */
type Invalid = Extract<CredentialsAnswer, { readonly kind: 'invalid' }>;

function invalid(message: string): Invalid {
  return { kind: 'invalid', message };
}

async function answer(question: CredentialsQuestion): Promise<CredentialsAnswer> {
  const config = await load(question);
  if (!(config instanceof KubeConfig)) return config;
  const cluster = clusterOf(config);
  if ('kind' in cluster) return cluster;
  const user = config.getCurrentUser();
  const entry = await userEntry(question, user?.name);
  const notSent = IMPERSONATION_NOT_SENT.filter((name) => fieldOf(entry, name) !== undefined);
  if (notSent.length > 0)
    return invalid(
      `its user has ${notSent.join(', ')}, and of impersonation only \`as\` is supported: remove it, or name a user that has the rights itself`,
    );
  try {
    const options = await requestOptions(config, cluster);
    const tokenFile = user?.token ? undefined : tokenFileOf(question, entry, user?.authProvider);
    const token = tokenFile === undefined ? bearerOf(options) : (await systemFiles.readText(tokenFile)).trim();
    return {
      kind: 'credentials',
      credentials: {
        server: cluster.server,
        // The library leaves the CA out for a context without a user.
        caPem: pemOf(bufferFromFileOrString(cluster.caFile, cluster.caData)),
        certPem: pemOf(options.cert),
        keyPem: pemOf(options.key),
        token,
        tokenFile,
        username: user?.username || undefined,
        password: user?.password || undefined,
        impersonateUser: user?.impersonateUser || undefined,
        serverName: cluster.tlsServerName || undefined,
        skipTlsVerify: cluster.skipTLSVerify,
        expiresAt: pluginExpiry(config) ?? jwtExpiry(token),
      },
    };
  } catch (error) {
    return { kind: 'failed', message: `the credentials cannot be resolved: ${messageOf(error).trim()}` };
  }
}

/** The configuration, in the context that is asked for. */
async function load(question: CredentialsQuestion): Promise<KubeConfig | Invalid> {
  const config = new KubeConfig();
  try {
    if (question.kind === 'in-cluster') config.loadFromCluster(question.root);
    else if (await systemFiles.list(question.file)) config.loadFromFile(question.file);
    else return invalid('no such file: give the path of a kubeconfig with --kubeconfig');
  } catch (error) {
    return invalid(`not a kubeconfig (${messageOf(error)}): check the file with kubectl config view`);
  }
  if (question.kind === 'kubeconfig' && question.context !== undefined) {
    if (!config.getContexts().some(({ name }) => name === question.context))
      return invalid(`it has no context ${JSON.stringify(question.context)} (contexts: ${contextNames(config)})`);
    config.setCurrentContext(question.context);
  }
  return config;
}

function contextNames(config: KubeConfig): string {
  return (
    config
      .getContexts()
      .map(({ name }) => name)
      .join(', ') || 'none'
  );
}

function clusterOf(config: KubeConfig): Cluster | Invalid {
  const cluster = config.getCurrentCluster();
  if (!cluster) {
    const context = config.getCurrentContext() as string | undefined;
    const problem = context
      ? `its current-context ${JSON.stringify(context)} leads to no cluster (contexts: ${contextNames(config)})`
      : 'it has no current-context';
    return invalid(`${problem}: set one with kubectl config use-context`);
  }
  if (cluster.proxyUrl)
    return invalid(
      `its cluster has proxy-url ${cluster.proxyUrl}, which is not supported: remove it, or name a server that can be reached directly`,
    );
  return cluster;
}

async function requestOptions(config: KubeConfig, cluster: Cluster): Promise<RequestOptions> {
  const options: RequestOptions = {};
  // The library makes an agent as well, and refuses to for http:// unless told to skip TLS; we only want the rest.
  if (cluster.server.startsWith('http:')) Object.assign(cluster, { skipTLSVerify: true });
  await config.applyToHTTPSOptions(options);
  return options;
}

/**
 * The file that holds the token. The library knows that of a service account, but not the `tokenFile` of a kubeconfig,
 * which is what kubeadm writes for kube-proxy; so that is read here.
 */
function tokenFileOf(question: CredentialsQuestion, entry: unknown, provider: unknown): string | undefined {
  if (fieldOf(provider, 'name') === 'tokenFile') return textOf(fieldOf(provider, 'config'), 'tokenFile');
  const file = textOf(entry, 'tokenFile');
  return file === undefined || question.kind !== 'kubeconfig' ? undefined : resolve(dirname(question.file), file);
}

/** The user as it stands in the kubeconfig: the library keeps only the fields that it knows. */
async function userEntry(question: CredentialsQuestion, user: string | undefined): Promise<unknown> {
  if (question.kind !== 'kubeconfig' || user === undefined) return undefined;
  const users = fieldOf(parse(await systemFiles.readText(question.file)), 'users');
  const entry: unknown = Array.isArray(users) ? users.find((item) => textOf(item, 'name') === user) : undefined;
  return fieldOf(entry, 'user');
}

function bearerOf(options: RequestOptions): string | undefined {
  const headers: unknown = options.headers;
  return textOf(headers, 'Authorization')?.replace(/^Bearer /, '');
}

function pemOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : undefined;
}

/** `status.expirationTimestamp` of an exec plugin's answer, which the library keeps to itself. */
function pluginExpiry(config: KubeConfig): number | undefined {
  const authenticators: unknown = Reflect.get(config, 'authenticators');
  for (const authenticator of Array.isArray(authenticators) ? authenticators : []) {
    const cache = fieldOf(authenticator, 'tokenCache');
    for (const credential of typeof cache === 'object' && cache !== null ? Object.values(cache) : []) {
      const time = Date.parse(textOf(fieldOf(credential, 'status'), 'expirationTimestamp') ?? '');
      if (!Number.isNaN(time)) return time;
    }
  }
  return undefined;
}

/** `exp` of a token that is a JWT (RFC 7519 section 4.1.4). */
function jwtExpiry(token: string | undefined): number | undefined {
  const payload = token?.split('.')[1];
  if (payload === undefined) return undefined;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    const seconds = fieldOf(claims, 'exp');
    return typeof seconds === 'number' ? seconds * 1000 : undefined;
  } catch {
    return undefined;
  }
}
