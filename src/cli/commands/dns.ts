// `fairlead dns`: CoreDNS's job, as its Corefile says or as flags say.

import { hostPort, isUnspecified, parseIp, type Ip } from '../../lib/ip.ts';
import { messageOf } from '../../lib/message-of.ts';
import { probeHealth } from '../../observe/health-probe.ts';
import { profileRoutes } from '../../observe/profile-routes.ts';
import { BindError, coreDnsHealth, coreDnsReady, jsonRoute, metricsRoutes, type Routes } from '../../observe/server.ts';
import { SourceError } from '../../source/source-error.ts';
import type { HttpAddress } from '../../dns/block.ts';
import type { ClusterNeeds, FoundNeeds } from '../../dns/cluster-needs.ts';
import { flagBlockFinder } from '../../dns/explained-flags.ts';
import type { NodeLocal } from '../../dns/node-local/node.ts';
import type { Prepared } from '../../dns/plane.ts';
import { upstreamText } from '../../dns/upstream.ts';
import type { Corefile, LoadedCorefile } from '../../dns/corefile/load.ts';
import { keepHeapSmall } from '../../system/heap.ts';
import { interfaceAddresses } from '../../system/interfaces.ts';
import { onSignal } from '../../system/signals.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext, type RunningContext } from '../context.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import { explainNameRoutes, type BlockOf } from '../explain-name.ts';
import { runHouse, type Endpoint, type HouseControl, type Reopened } from '../house.ts';
import type { ListenAddress } from '../listen-address.ts';
import { nodeLocal, nodeLocalSettings, withTemplate, type NodeLocalSettings } from '../node-local.ts';
import { corefilePlane, dnsPlane } from '../planes.ts';
import { clusterDomain, listenAddress, listenAddresses, nodeName, port, upstreams, workers } from '../settings.ts';
import { apiServerSource, chooseSource, type SourceStarter } from '../source-choice.ts';
import { VERSION } from '../version.ts';

export async function dns(args: Arguments): Promise<number> {
  const context = createRunningContext(args);
  if (args.isSet('version')) {
    context.out(`fairlead ${VERSION}\n`);
    return EXIT_STOPPED;
  }
  if (args.isSet('plugins')) {
    const { PLUGINS } = await import('../../dns/plugin-list.ts');
    const names = PLUGINS.flatMap((plugin) => (typeof plugin === 'string' ? [] : [plugin.name]));
    context.out(`${names.map((name) => `dns.${name}`).join('\n')}\n`);
    return EXIT_STOPPED;
  }
  keepHeapSmall();
  // As CoreDNS, so that a terminal that goes takes no server with it.
  onSignal('SIGHUP', () => {});
  // Before there is anything to read again; Node would open its debugger.
  onSignal('SIGUSR1', () => {});
  const settings = nodeLocalSettings(args);
  const node = settings && { settings, running: nodeLocal(settings, context) };
  const path = args.text('conf');
  const run = (): Promise<number> =>
    path === undefined ? byFlags(args, context, node) : byCorefile(args, context, path, node);
  return withPidFile(args, () => (node ? onNode(node, run) : run()));
}

interface Node {
  readonly settings: NodeLocalSettings;
  readonly running: NodeLocal;
}

/** With addresses and rules around it. */
async function onNode({ running }: Node, run: () => Promise<number>): Promise<number> {
  await running.start();
  try {
    return await run();
  } finally {
    await running.stop();
  }
}

/** The metrics of a node's server have an address of their own. */
function nodeEndpoints(context: RunningContext, node: Node | undefined): readonly Endpoint[] {
  return node ? [{ ...metricsEndpoint(context, node.settings.metrics), flag: 'metrics-listen-address' }] : [];
}

/** The file holds the process's number while it runs. */
async function withPidFile(args: Arguments, run: () => Promise<number>): Promise<number> {
  const path = args.text('pidfile');
  if (path === undefined) return run();
  const { removeFile, writeTextFile } = await import('../../system/written-file.ts');
  try {
    await writeTextFile(path, `${process.pid}\n`);
  } catch (error) {
    const why = messageOf(error);
    throw new UsageError(`flag --pidfile: cannot write ${path}: ${why}`);
  }
  try {
    return await run();
  } finally {
    await removeFile(path);
  }
}

function byFlags(args: Arguments, context: RunningContext, node: Node | undefined): Promise<number> {
  const own = node?.settings.ips.map((address) => ({ address, port: port(args, 'dns.port', 53) }));
  const servers = upstreams(args)?.map(upstreamText) ?? ['the servers of /etc/resolv.conf'];
  const threads = workers(args, context.cpus);
  const byFlagsOf = flagBlockFinder(clusterDomain(args), servers);
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: chooseSource(args, context, { mostWaitMs: mostWaitMs(args), countedAs: 'coredns' }),
    kinds: ['services', 'endpointSlices', 'namespaces'],
    planes: [dnsPlane(args, context, own ?? listenOn(args), threads)],
    mayPause: mayPause(threads),
    endpoints: [
      ...nodeEndpoints(context, node),
      metricsEndpoint(context, listenAddress(args, 'metrics-bind-address', '127.0.0.1:9153'), () => byFlagsOf),
      healthEndpoint(listenAddress(args, 'health-bind-address', '0.0.0.0:8080')),
      readyEndpoint(listenAddress(args, 'ready-bind-address', '0.0.0.0:8181')),
    ],
    onPlaneFailure: 'alone',
  });
}

function metricsEndpoint(context: RunningContext, listen: ListenAddress, blockOf?: () => BlockOf): Endpoint {
  return {
    what: 'metrics and state',
    listen,
    flag: 'metrics-bind-address',
    routes: ({ state, snapshot }) => [
      metricsRoutes(context.metrics),
      jsonRoute('/state', state),
      ...(blockOf ? [explainNameRoutes(snapshot, blockOf)] : []),
    ],
  };
}

function healthEndpoint(listen: ListenAddress): Endpoint {
  return { what: 'health', listen, flag: 'health-bind-address', routes: () => [coreDnsHealth()] };
}

function readyEndpoint(listen: ListenAddress): Endpoint {
  return {
    what: 'readiness',
    listen,
    flag: 'ready-bind-address',
    routes: ({ health }) => [coreDnsReady(health)],
  };
}

/** What a Corefile says itself. */
const NOT_WITH_CONF = [
  'cluster-domain',
  'upstream',
  'dns-bind-address',
  'metrics-bind-address',
  'health-bind-address',
  'ready-bind-address',
];

async function byCorefile(
  args: Arguments,
  context: RunningContext,
  path: string,
  node: Node | undefined,
): Promise<number> {
  for (const flag of NOT_WITH_CONF) {
    // A node's template has the zone open.
    if (flag === 'cluster-domain' && node) continue;
    if (args.list(flag) ?? args.text(flag))
      throw new UsageError(`flags --conf and --${flag} exclude each other: the Corefile says it; change it there`);
  }
  const { loadCorefile } = await import('../../dns/corefile/load.ts');
  const { clusterNeeds } = await import('../../dns/cluster-needs.ts');
  const mistaken = (message: string): void => {
    node?.running.badConfigMap();
    context.log.error(message);
  };
  const load = async (): Promise<LoadedCorefile> => {
    const files = node ? await withTemplate(context.files, path, node.settings, mistaken) : context.files;
    return loadCorefile({ path, files, env: (name) => process.env[name], port: port(args, 'dns.port', 53) });
  };
  const loaded = await load();
  if (loaded.kind === 'mistake') throw new UsageError(loaded.message);
  const { corefile } = loaded;
  const { blocks } = corefile;
  if (args.isSet('quiet') !== true)
    for (const { zones, port: number } of blocks) context.log.info('serving', { zones: zones.length, port: number });
  const found = clusterNeeds(blocks);
  if (found.kind === 'mistake') throw new UsageError(found.message);
  const { blockFinder } = await import('../../dns/explained-block.ts');
  const blocksOf = (one: Corefile): BlockOf => blockFinder(one.blocks);
  const threads = threadsOf(args, context, corefile);
  const role = new CorefileRole({
    args,
    context,
    corefile,
    needs: found.needs,
    blocksOf,
    always: nodeEndpoints(context, node),
  });
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: sourceOf(args, context, found.needs),
    kinds: found.needs.kinds,
    mayPause: mayPause(threads),
    planes: [
      corefilePlane(
        context,
        threads,
        corefile,
        load,
        (next) => role.prepare(next, clusterNeeds),
        node?.settings.rereadMs,
      ),
    ],
    endpoints: role.endpoints(corefile),
    onControl: (control) => role.controlledBy(control),
    onStop: () => role.stop(),
    onPlaneFailure: 'alone',
  });
}

const noSource: SourceStarter = async () => ({
  connection: undefined,
  watchNamed: () => {},
  namedRead: async () => {},
  stop: async () => {},
});

/** Where threads of their own answer, nobody waits for the main one. */
function mayPause(threads: number): 'always' | 'at the start' {
  return threads > 0 ? 'always' : 'at the start';
}

/** As the flag says, or as `multisocket` does: a thread for each socket. */
function threadsOf(args: Arguments, { cpus }: RunningContext, { blocks }: Corefile): number {
  const wanted = blocks.flatMap(({ sockets }) => (sockets === undefined ? [] : sockets === 'cpus' ? cpus : sockets));
  return workers(args, wanted.length > 0 ? Math.max(...wanted) : cpus);
}

interface CorefileRoleOptions {
  readonly args: Arguments;
  readonly context: RunningContext;
  readonly corefile: Corefile;
  readonly needs: ClusterNeeds;
  readonly blocksOf: (corefile: Corefile) => BlockOf;
  /** Open whatever the Corefile says. */
  readonly always: readonly Endpoint[];
}

/** What a Corefile asks for beside DNS, now and when it changes. */
class CorefileRole {
  readonly #args: Arguments;
  readonly #context: RunningContext;
  readonly #blocksOf: (corefile: Corefile) => BlockOf;
  readonly #always: readonly Endpoint[];
  #corefile: Corefile;
  #needs: ClusterNeeds;
  #control: HouseControl | undefined;
  readonly #stopping = new AbortController();
  #probing: Promise<void> = Promise.resolve();

  constructor({ args, context, corefile, needs, blocksOf, always }: CorefileRoleOptions) {
    this.#always = always;
    this.#args = args;
    this.#context = context;
    this.#corefile = corefile;
    this.#needs = needs;
    this.#blocksOf = blocksOf;
  }

  controlledBy(control: HouseControl): void {
    this.#control = control;
    const { clock, metrics, log } = this.#context;
    const server = (): string | undefined => {
      const [first] = once(this.#corefile.blocks.flatMap(({ health }) => health.map(({ address }) => address)));
      return first && `http://${hostPort(ownAddress(first.address), first.port)}`;
    };
    if (server() === undefined) return;
    this.#probing = probeHealth({ server, clock, metrics, log, stopped: this.#stopping.signal });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#probing;
  }

  endpoints({ blocks }: Corefile): readonly Endpoint[] {
    const blockOf = (): BlockOf => this.#blocksOf(this.#corefile);
    return [
      ...this.#always,
      ...once(blocks.flatMap(({ prometheus }) => prometheus)).map((at) => metricsEndpoint(this.#context, at, blockOf)),
      ...once(blocks.flatMap(({ health }) => health.map(({ address }) => address))).map(healthEndpoint),
      ...once(blocks.flatMap(({ ready }) => ready)).map(readyEndpoint),
      ...once(blocks.flatMap(({ pprof }) => pprof)).map((at) => this.#profileEndpoint(at)),
    ];
  }

  #profileEndpoint(listen: ListenAddress): Endpoint {
    const { clock } = this.#context;
    const threads = threadsOf(this.#args, this.#context, this.#corefile);
    const about =
      threads > 0
        ? 'They show the main thread, which follows the cluster; to see queries being answered, start it with --workers 0.'
        : 'They show everything: the main thread answers queries, too.';
    const routes = (): readonly Routes[] => [profileRoutes({ clock, about, stopped: this.#stopping.signal })];
    return { what: 'profiles', listen, flag: 'the address in the Corefile', routes };
  }

  /** Opens and follows what the new Corefile names; the old one's goes once that is in force. */
  async prepare(next: Corefile, needsOf: (blocks: Corefile['blocks']) => FoundNeeds): Promise<Prepared> {
    const control = this.#control;
    const found = needsOf(next.blocks);
    if (found.kind === 'mistake') return found;
    if (!control) return { kind: 'mistake', message: 'the program has not started yet' };
    let reopened: Reopened;
    try {
      reopened = await control.reopen(this.endpoints(next));
    } catch (error) {
      if (error instanceof BindError) return { kind: 'mistake', message: error.message };
      throw error;
    }
    if (threadsOf(this.#args, this.#context, next) !== threadsOf(this.#args, this.#context, this.#corefile))
      this.#context.log.warn('multisocket has changed, which takes a restart; the number of threads stays');
    const { needs } = found;
    const before = this.#needs;
    const differs = JSON.stringify(needs) !== JSON.stringify(before);
    try {
      if (differs) await this.#follow(control, needs, next);
    } catch (error) {
      await reopened.rollback();
      if (error instanceof SourceError) return { kind: 'mistake', message: error.message };
      throw error;
    }
    return {
      kind: 'prepared',
      commit: async () => {
        this.#corefile = next;
        this.#needs = needs;
        await reopened.commit();
      },
      rollback: async () => {
        if (differs) await control.follow(sourceOf(this.#args, this.#context, before), before.kinds);
        await reopened.rollback();
      },
    };
  }

  /** The new Corefile is not in force before what it needs has been read, or has not come for a while. */
  async #follow(control: HouseControl, needs: ClusterNeeds, { blocks }: Corefile): Promise<void> {
    await control.follow(sourceOf(this.#args, this.#context, needs), needs.kinds);
    const patience = Math.max(0, ...blocks.map(({ kubernetes }) => kubernetes?.startupTimeoutMs ?? 0));
    await control.synced(needs.kinds, patience);
  }
}

/** By which this machine reaches what listens there. */
function ownAddress(address: Ip): string {
  if (!isUnspecified(address)) return address;
  return address.includes(':') ? '::1' : '127.0.0.1';
}

/** Several blocks may name the same address: it is opened once. */
function once(addresses: readonly HttpAddress[]): readonly ListenAddress[] {
  const everywhere = interfaceAddresses().some((ip) => ip.includes(':')) ? '::' : '0.0.0.0';
  const found = new Map<string, ListenAddress>();
  for (const { address = parseIp(everywhere), port: number } of addresses)
    if (address) found.set(hostPort(address, number), { address, port: number });
  return [...found.values()];
}

/**
 * New names are visible within a second of the return of an API server that was away. The few servers of a cluster are no burden to it; those of every
 * node, coming back together, would be.
 */
function mostWaitMs(args: Arguments): number | undefined {
  return args.text('localip') === undefined ? 800 : undefined;
}

/** Where the Corefile says nothing of it, as the flags say. */
function sourceOf(args: Arguments, context: RunningContext, needs: ClusterNeeds): SourceStarter {
  const { kinds, target, selectors } = needs;
  if (kinds.length === 0) return noSource;
  if (target.kubeconfig === undefined && target.endpoint === undefined)
    return chooseSource(args, context, { selectors, mostWaitMs: mostWaitMs(args), countedAs: 'coredns' });
  const { kubeconfig, context: named, endpoint, tls } = target;
  const master = kubeconfig === undefined ? endpoint : undefined;
  return apiServerSource(
    { kubeconfig, context: named, master, ...(master === undefined ? {} : { tls }) },
    nodeName(args, context.hostname),
    { selectors, mostWaitMs: mostWaitMs(args), countedAs: 'coredns' },
  );
}

function listenOn(args: Arguments): readonly ListenAddress[] {
  if (args.text('dns.port') === undefined) {
    return listenAddresses(args, 'dns-bind-address', ['0.0.0.0:53', '[::]:53']);
  }
  if (args.list('dns-bind-address')) {
    throw new UsageError('flags --dns.port and --dns-bind-address exclude each other: give the port with the address');
  }
  const number = port(args, 'dns.port', 53);
  return listenAddresses(args, 'dns-bind-address', [`0.0.0.0:${number}`, `[::]:${number}`]);
}
