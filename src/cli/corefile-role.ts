// What a Corefile asks for beside DNS, now and when it changes: endpoints, objects of the cluster, threads.

import type { HttpAddress } from '../dns/block.ts';
import type { ClusterNeeds, FoundNeeds } from '../dns/cluster-needs.ts';
import type { Corefile } from '../dns/corefile/load.ts';
import type { Prepared } from '../dns/plane.ts';
import { hostPort, isUnspecified, parseIp, type Ip } from '../lib/ip.ts';
import { probeHealth } from '../observe/health-probe.ts';
import { profileRoutes } from '../observe/profile-routes.ts';
import { BindError, type Routes } from '../observe/server.ts';
import { SourceError } from '../source/source-error.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import type { Arguments } from './args.ts';
import type { RunningContext } from './context.ts';
import { healthEndpoint, metricsEndpoint, readyEndpoint } from './dns-endpoints.ts';
import type { BlockOf } from './explain-name.ts';
import type { Endpoint, HouseControl, Reopened } from './house.ts';
import type { ListenAddress } from './listen-address.ts';
import { nodeName, workers } from './settings.ts';
import { apiServerSource, chooseSource, type SourceStarter } from './source-choice.ts';

/** As the flag says, or as `multisocket` does: a thread for each socket. */
export function threadsOf(args: Arguments, { cpus }: RunningContext, { blocks }: Corefile): number {
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
export class CorefileRole {
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

const noSource: SourceStarter = async () => ({
  connection: undefined,
  watchNamed: () => {},
  namedRead: async () => {},
  stop: async () => {},
});

/**
 * New names are visible within a second of the return of an API server that was away. The few servers of a cluster are no burden to it; those of every
 * node, coming back together, would be.
 */
export function mostWaitMs(args: Arguments): number | undefined {
  return args.text('localip') === undefined ? 800 : undefined;
}

/** Where the Corefile says nothing of it, as the flags say. */
export function sourceOf(args: Arguments, context: RunningContext, needs: ClusterNeeds): SourceStarter {
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
