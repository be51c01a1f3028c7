// Requests to the API server as who we are: credentials are renewed when they are about to end, and when refused.

import { messageOf } from '../../lib/message-of.ts';
import type { Logger } from '../../observe/log.ts';
import type { Clock } from '../../system/clock.ts';
import type { Files } from '../../system/files.ts';
import { createHttpClient, type HttpClient, type HttpRequest, type HttpResponse } from '../../system/http-client.ts';
import type { RequestMetrics } from './request-metrics.ts';
import { SourceError } from '../source-error.ts';
import { readCredentials, type ApiTarget, type Credentials, type ReadCredentials } from './credentials.ts';

export interface ApiConnectionOptions {
  readonly target: ApiTarget;
  readonly clock: Clock;
  readonly log: Logger;
  /** For a token that stands in a file. */
  readonly files: Files;
  readonly userAgent?: string;
  /** Counts requests as clients of Kubernetes do. */
  readonly requests?: RequestMetrics;
  readonly readCredentials?: ReadCredentials;
}

/** Renewed this long before they end. */
const EARLY_MS = 60_000;
/** Resolving costs a process; no more than one in this time, however many requests are refused. */
const RENEW_INTERVAL_MS = 10_000;
/** A service account's token file is replaced long before the old token ends. */
const TOKEN_FILE_MS = 60_000;

/** Throws a SourceError when the credentials cannot be resolved. */
export async function openApiConnection(options: ApiConnectionOptions): Promise<ApiConnection> {
  const connection = new ApiConnection(options);
  await connection.renew();
  return connection;
}

export class ApiConnection {
  readonly #options: ApiConnectionOptions;
  #credentials: Credentials | undefined;
  #client: HttpClient | undefined;
  /** Clients of older credentials, which still carry watches. */
  readonly #retired: HttpClient[] = [];
  #token: string | undefined;
  #tokenReadAt = 0;
  #renewedAt = Number.NEGATIVE_INFINITY;
  #renewing: Promise<void> | undefined;
  #generation = 0;

  constructor(options: ApiConnectionOptions) {
    this.#options = options;
  }

  get server(): string {
    return this.#credentials?.server ?? '';
  }

  /**
   * One request. A 401 renews the credentials and asks once more; the second answer is final. Rejects with an
   * HttpClientError when the server cannot be reached, or a SourceError when the credentials cannot be had.
   */
  async request(request: HttpRequest): Promise<HttpResponse> {
    await this.#renewIfEnding();
    const generation = this.#generation;
    const response = await this.#send(request);
    if (response.status !== 401) return response;
    const renewed = this.#generation !== generation || (await this.#renewRefused());
    if (!renewed) return response;
    await response.text();
    return this.#send(request);
  }

  /** Resolves the credentials anew; requests that come meanwhile share it. */
  renew(): Promise<void> {
    this.#renewing ??= this.#resolve().finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  close(): void {
    this.#client?.close();
    for (const client of this.#retired) client.close();
  }

  async #send(request: HttpRequest): Promise<HttpResponse> {
    const credentials = this.#credentials;
    const client = this.#client;
    if (!credentials || !client) throw new SourceError('credentials-failed', 'no credentials yet');
    await this.#readTokenFile(credentials);
    const headers: Record<string, string> = { 'User-Agent': this.#options.userAgent ?? 'fairlead', ...request.headers };
    if (this.#token !== undefined) headers['Authorization'] = `Bearer ${this.#token}`;
    else if (credentials.username !== undefined) {
      const pair = Buffer.from(`${credentials.username}:${credentials.password ?? ''}`).toString('base64');
      headers['Authorization'] = `Basic ${pair}`;
    }
    if (credentials.impersonateUser !== undefined) headers['Impersonate-User'] = credentials.impersonateUser;
    return this.#counted(credentials.server, request, () => client.request({ ...request, headers }));
  }

  async #counted(server: string, request: HttpRequest, send: () => Promise<HttpResponse>): Promise<HttpResponse> {
    const { clock, requests } = this.#options;
    if (!requests) return send();
    const { method = 'GET', body } = request;
    const { host } = new URL(server);
    const start = clock.monotonic();
    let code = '<error>';
    try {
      const response = await send();
      code = String(response.status);
      return response;
    } finally {
      requests.total.add(1, { code, host, method });
      requests.durations.observe((clock.monotonic() - start) / 1000, { host, verb: method });
      requests.held?.observe(0, { host, verb: method });
      if (body !== undefined) requests.sizes?.observe(Buffer.byteLength(body), { host, verb: method });
    }
  }

  async #readTokenFile(credentials: Credentials): Promise<void> {
    const { clock, files, log } = this.#options;
    if (credentials.tokenFile === undefined || clock.monotonic() - this.#tokenReadAt < TOKEN_FILE_MS) return;
    this.#tokenReadAt = clock.monotonic();
    try {
      this.#token = (await files.readText(credentials.tokenFile)).trim();
    } catch (error) {
      log.warn('the token file cannot be read; the last token is used', {
        file: credentials.tokenFile,
        error: String(error),
      });
    }
  }

  async #renewIfEnding(): Promise<void> {
    const expiresAt = this.#credentials?.expiresAt;
    if (expiresAt === undefined || this.#credentials?.tokenFile !== undefined) return;
    const { clock, log } = this.#options;
    if (clock.now() < expiresAt - EARLY_MS || !this.#mayRenew()) return;
    try {
      await this.renew();
    } catch (error) {
      log.warn('the credentials are about to end and cannot be renewed', { error: messageOf(error) });
    }
  }

  async #renewRefused(): Promise<boolean> {
    const { log } = this.#options;
    if (!this.#renewing && !this.#mayRenew()) return false;
    try {
      await this.renew();
      return true;
    } catch (error) {
      log.warn('the API server refuses the credentials, and they cannot be renewed', { error: messageOf(error) });
      return false;
    }
  }

  #mayRenew(): boolean {
    return this.#options.clock.monotonic() - this.#renewedAt >= RENEW_INTERVAL_MS;
  }

  async #resolve(): Promise<void> {
    const { clock, target } = this.#options;
    this.#renewedAt = clock.monotonic();
    const next = await (this.#options.readCredentials ?? readCredentials)(target);
    if (!this.#credentials || !this.#client || !sameConnection(this.#credentials, next)) {
      const client = makeClient(next);
      if (this.#client) {
        this.#client.retire();
        this.#retired.push(this.#client);
      }
      this.#client = client;
    }
    this.#credentials = next;
    this.#token = next.token;
    this.#tokenReadAt = clock.monotonic();
    this.#generation++;
  }
}

function makeClient(credentials: Credentials): HttpClient {
  try {
    return createHttpClient(credentials);
  } catch (error) {
    const message = `the CA, certificate or key for ${credentials.server} cannot be used: ${messageOf(error)}`;
    throw new SourceError('kubeconfig-invalid', message, error);
  }
}

function sameConnection(a: Credentials, b: Credentials): boolean {
  return (
    a.server === b.server &&
    a.caPem === b.caPem &&
    a.certPem === b.certPem &&
    a.keyPem === b.keyPem &&
    a.serverName === b.serverName &&
    a.skipTlsVerify === b.skipTlsVerify
  );
}
