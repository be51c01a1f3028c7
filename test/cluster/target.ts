// A cluster to run cases against: objects in a namespace of their own, all of which go in the end.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/observe/log.ts';
import { openApiConnection, type ApiConnection } from '../../src/source/api/connection.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import type { Json } from '../support/api-server/json.ts';
import { RESOURCES, apiVersionOf } from '../support/api-server/resource-table.ts';
import { kubeconfigOf } from '../support/api-server/kubeconfig.ts';
import { startTestApiServer } from '../support/api-server/server.ts';
import { FairleadProcess } from '../support/process.ts';

export class ClusterTarget {
  readonly namespace = `fairlead-test-${process.pid}-${Date.now().toString(36)}`;
  readonly kubeconfig: string;
  readonly #connection: ApiConnection;
  readonly #created: string[] = [];
  readonly #processes: FairleadProcess[] = [];
  readonly #servers: Server[] = [];
  readonly #closing: (() => Promise<void>)[] = [];

  private constructor(kubeconfig: string, connection: ApiConnection) {
    this.kubeconfig = kubeconfig;
    this.#connection = connection;
  }

  /** The cluster of a kubeconfig, with the rights of its current context. */
  static async open(kubeconfig: string): Promise<ClusterTarget> {
    const connection = await openApiConnection({
      target: { kubeconfig },
      clock: systemClock,
      log: silentLogger,
      files: systemFiles,
      userAgent: 'fairlead-test',
    });
    const target = new ClusterTarget(kubeconfig, connection);
    await target.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: target.namespace } });
    return target;
  }

  /** The API server for tests, behind a kubeconfig as any other. */
  static async openTestServer(): Promise<ClusterTarget> {
    const server = await startTestApiServer();
    const dir = mkdtempSync(join(tmpdir(), 'fairlead-cluster-'));
    const path = join(dir, 'kubeconfig');
    writeFileSync(path, kubeconfigOf(server.url));
    const target = await ClusterTarget.open(path);
    target.#closing.push(async () => {
      await server.stop();
      rmSync(dir, { recursive: true });
    });
    return target;
  }

  /** Creates the object, in our namespace where it has one, and gives it as the cluster has it. */
  async create(object: Json): Promise<Json> {
    const { collection, named } = this.#pathsOf(object);
    const created = await this.#ask('POST', collection, object);
    this.#created.push(named);
    return created;
  }

  /** Puts the object in the place of the one that there is. */
  async replace(object: Json): Promise<void> {
    const { named } = this.#pathsOf(object);
    const { resourceVersion } = (await this.#ask('GET', named))['metadata'] as { resourceVersion: string };
    const metadata = { ...(object['metadata'] as Json), resourceVersion };
    await this.#ask('PUT', named, { ...object, metadata });
  }

  async delete(object: Json): Promise<void> {
    await this.#ask('DELETE', this.#pathsOf(object).named);
  }

  /** Runs `fairlead COMMAND` against the cluster until it is closed. */
  run(command: 'proxy' | 'dns' | 'ingress', ...flags: readonly string[]): FairleadProcess {
    const running = new FairleadProcess([command, '--kubeconfig', this.kubeconfig, '--logging-format=json', ...flags]);
    this.#processes.push(running);
    return running;
  }

  /** A server that answers HTTP with the name, at an address that an EndpointSlice may hold. */
  async serve(name: string): Promise<{ readonly ip: string; readonly port: number }> {
    const ip = ownAddress();
    const server = createServer((_request, response) => {
      response.setHeader('Connection', 'close');
      response.end(name);
    });
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, ip, resolve));
    this.#servers.push(server);
    const bound = server.address();
    return { ip, port: typeof bound === 'object' && bound ? bound.port : 0 };
  }

  async close(): Promise<void> {
    await Promise.all(this.#processes.map((each) => each.close()));
    for (const server of this.#servers) server.close();
    // What has no namespace goes by name; the namespace, which was first, takes the rest along.
    for (const path of this.#created.reverse()) {
      if (!path.includes(`/namespaces/${this.namespace}/`)) await this.#ask('DELETE', path);
    }
    this.#connection.close();
    for (const close of this.#closing) await close();
  }

  #pathsOf(object: Json): { readonly collection: string; readonly named: string } {
    const { kind, apiVersion, metadata } = object as { kind: string; apiVersion: string; metadata: { name: string } };
    const resource = RESOURCES.find((each) => each.kind === kind && apiVersionOf(each) === apiVersion);
    if (!resource) throw new Error(`${apiVersion} ${kind} is no kind that the cases use`);
    const group = resource.group === '' ? `/api/${resource.version}` : `/apis/${apiVersion}`;
    const collection = `${group}${resource.namespaced ? `/namespaces/${this.namespace}` : ''}/${resource.plural}`;
    return { collection, named: `${collection}/${metadata.name}` };
  }

  async #ask(method: string, path: string, body?: Json): Promise<Json> {
    const response = await this.#connection.request({
      method,
      path,
      headers: { Accept: 'application/json', 'Content-Type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 500)}`);
    return JSON.parse(text) as Json;
  }
}

/** An address of this machine that is not loopback, which the API does not take for endpoints; loopback where there is no other. */
function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return addresses.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}
