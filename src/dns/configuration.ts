// A configuration in force: blocks that run, the addresses that they answer at, and their background tasks.

import { randomInt } from 'node:crypto';
import { isLoopback, isUnspecified, type Ip } from '../lib/ip.ts';
import type { Logger } from '../observe/log.ts';
import type { Meters } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import type { Files } from '../system/files.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import type { BlockDraft, BlockServices, Timeouts } from './block.ts';
import { refuse, type Handle } from './handler.ts';
import type { ListenAddress } from './listener.ts';
import { serverLabel, type DnsMetrics } from './metrics.ts';
import { isOurselves } from './resolv-conf.ts';
import { Routes, runBlock, type RunningBlock } from './route.ts';
import type { SharedFacts } from './shared-facts.ts';
import type { TlsSetting } from './tls-setting.ts';
import { ZoneKeeper } from './zone-keeper.ts';
import type { DnsSource } from './zone/source.ts';

export interface BlockAt {
  readonly draft: BlockDraft;
  readonly listen: readonly ListenAddress[];
}

export interface ConfigurationOptions {
  readonly blocks: readonly BlockAt[];
  readonly selfIps: readonly Ip[] | undefined;
  readonly source: DnsSource | undefined;
  /** Threads that answer, and whether this one does what is done once. */
  readonly workers: number;
  readonly leads: boolean;
  readonly shared: SharedFacts;
  /** Called when what a block answers, or shows of itself, has changed. */
  readonly changed: () => void;
  readonly log: Logger;
  readonly metrics: Meters;
  readonly dnsMetrics: DnsMetrics;
  readonly clock: Clock;
  readonly files: Files;
  readonly random: () => number;
}

export interface Configuration {
  readonly blocks: readonly BlockAt[];
  readonly zones: ZoneKeeper;
  /** What answers at each address. */
  readonly sites: ReadonlyMap<
    string,
    {
      readonly at: ListenAddress;
      readonly routes: Routes;
      readonly tls: () => TlsSetting | undefined;
      readonly timeouts: Timeouts | undefined;
    }
  >;
  /** Begins the background tasks. */
  start(): void;
  /** Ends them; what waits for upstream goes on. */
  rest(): Promise<void>;
  /** Ends everything; what still waits for upstream is answered SERVFAIL. */
  stop(): Promise<void>;
}

export function siteKey(at: ListenAddress): string {
  return `${at.scheme ?? 'dns'} ${at.address} ${at.port}`;
}

export function configure(options: ConfigurationOptions): Configuration {
  const { blocks, clock, files } = options;
  const stopping = new AbortController();
  const resting = new AbortController();
  const listen = blocks.flatMap((block) => block.listen);
  const own = interfaceAddresses();
  const zones = new ZoneKeeper(
    options.selfIps ?? selfIps(listen),
    () => Math.floor(clock.now() / 1000),
    options.source,
  );
  const services = (ask: Handle, { draft, listen: [first] }: BlockAt): BlockServices => ({
    clock,
    log: draft.debugs ? withDebug(options.log) : options.log,
    metrics: options.metrics,
    dnsMetrics: options.dnsMetrics,
    random: options.random,
    randomId: () => randomInt(0x10000),
    stopped: stopping.signal,
    ask,
    zone: (zoneOptions) => zones.zone(zoneOptions),
    workers: options.workers,
    leads: options.leads,
    shared: options.shared,
    changed: options.changed,
    isOurselves: (server) => isOurselves(server, listen, own),
    readText: (path) => files.readText(path).catch(() => undefined),
    labels: { server: first ? serverLabel(first) : '', view: draft.view?.name ?? '' },
  });
  const running: { readonly block: RunningBlock; readonly at: BlockAt; readonly services: BlockServices }[] = [];
  for (const at of blocks) {
    // A block asks the server as it is met at the block's own address; it is whole only once all blocks are made.
    const ask: Handle = (asked) =>
      (at.listen[0] ? (sites.get(siteKey(at.listen[0]))?.routes.ask ?? refuse) : refuse)(asked);
    const given = services(ask, at);
    running.push({ block: runBlock(at.draft, given), at, services: given });
  }
  const sites = new Map(
    listen.map((address) => {
      const here = running.filter(({ at }) => at.listen.some((one) => siteKey(one) === siteKey(address)));
      const routed = here.map(({ block, at, services: given }) => ({
        zones: at.draft.zones,
        block,
        view: withNotes(at.draft, given),
      }));
      const tls = (): TlsSetting | undefined => here.find(({ at }) => at.draft.tls !== undefined)?.at.draft.tls;
      const timeouts = here.find(({ at }) => at.draft.timeouts !== undefined)?.at.draft.timeouts;
      return [siteKey(address), { at: address, routes: new Routes(routed), tls, timeouts }] as const;
    }),
  );
  let tasks: Promise<unknown> = Promise.resolve();
  const rest = async (): Promise<void> => {
    resting.abort();
    await tasks;
  };
  return {
    blocks,
    zones,
    sites,
    start: () => {
      const { signal: stopped } = resting;
      tasks = Promise.all(
        running.flatMap((one) => one.at.draft.tasks.map((task) => task({ ...one.services, stopped }))),
      );
    },
    rest,
    stop: async () => {
      stopping.abort();
      await rest();
    },
  };
}

/** The view of a block, which may ask what `metadata` of the block knows. */
function withNotes({ view, notes }: BlockDraft, services: BlockServices): BlockDraft['view'] {
  const notesOf = view && notes?.(services);
  if (!view || !notesOf) return view;
  return {
    name: view.name,
    fits: (asked) => {
      asked.metadata = notesOf(asked);
      return view.fits(asked);
    },
  };
}

/** The addresses by which this server finds its own Service. */
function selfIps(listen: readonly ListenAddress[]): readonly Ip[] {
  const named = listen.map(({ address }) => address).filter((address) => !isUnspecified(address));
  if (named.length === listen.length) return [...new Set(named)];
  return interfaceAddresses().filter((address) => !isLoopback(address));
}

/** A log that writes what is for debugging as what is to be known. */
function withDebug(log: Logger): Logger {
  return { ...log, debug: (message, fields) => log.info(message, fields), named: (part) => withDebug(log.named(part)) };
}
