// A server block while its plugins read their directives: what each of them asks for, and what it answers with.

import type { Ip } from '../lib/ip.ts';
import type { LabelSelector } from '../lib/label-selector.ts';
import type { Logger } from '../observe/log.ts';
import type { Meters } from '../observe/metrics.ts';
import type { Clock } from '../system/clock.ts';
import type { Place } from './corefile/error.ts';
import type { Directive } from './corefile/parse.ts';
import type { Scheme } from './listener.ts';
import { nobodyAnswered, type Asked, type Handle, type Handler } from './handler.ts';
import type { DnsMetrics } from './metrics.ts';
import type { SharedFacts } from './shared-facts.ts';
import type { TlsSetting } from './tls-setting.ts';
import type { UpstreamServer } from './upstream.ts';
import type { DnsName } from './wire/name.ts';
import type { OwnedRecord } from './wire/message.ts';
import type { Zone, ZoneOptions } from './zone/zone.ts';

/** An address of the small HTTP servers; `address` undefined is every one. */
export interface HttpAddress {
  readonly address: Ip | undefined;
  readonly port: number;
  readonly place: Place;
}

/** How to reach the API server, as the Corefile says; empty is in-cluster, or as the flags say. */
export interface ApiTarget {
  readonly kubeconfig?: string;
  /** Of the kubeconfig. */
  readonly context?: string;
  readonly endpoint?: string;
  /** Paths of PEM files, for `endpoint`. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
}

/** The labels of what is read. */
export interface ClusterSelectors {
  /** Of Services, EndpointSlices and Pods. */
  readonly objects?: LabelSelector;
  readonly namespaces?: LabelSelector;
}

/** What the kubernetes plugin of a block says. */
export interface KubernetesPlugin {
  /** Of its first zone, to which the reverse zones belong. */
  readonly options: KubernetesOptions;
  /** Of each zone. */
  readonly zones: readonly KubernetesOptions[];
  readonly target: ApiTarget;
  readonly selectors: ClusterSelectors;
  readonly startupTimeoutMs: number;
  readonly place: Place;
}

/** The zone options but for what only the running server knows. */
export type KubernetesOptions = Omit<ZoneOptions, 'selfIps'>;

/** One line of the query log. */
export interface QueryLog {
  /** Names under which queries are logged. */
  readonly zones: readonly DnsName[];
  readonly classes: ReadonlySet<'success' | 'denial' | 'error'>;
  readonly format: string;
}

/** Of connections, in milliseconds. */
export interface Timeouts {
  /** For the whole of a message. */
  readonly readMs?: number;
  /** For the client to take what it is sent. */
  readonly writeMs?: number;
  /** Of silence. */
  readonly idleMs?: number;
  /** Queries after which a connection is ended. */
  readonly maxQueries?: number;
}

export interface HeaderRule {
  readonly set: number;
  readonly clear: number;
}

/** A zone as `transfer` sends it. */
export interface TransferZone {
  readonly soa: OwnedRecord;
  readonly serial: number;
  /** Everything but the SOA. */
  readonly records: () => Iterable<OwnedRecord>;
}

/** The zone of that name (in lower case); undefined when it is none of the plugin's. */
export type TransferSource = (zone: DnsName) => TransferZone | undefined;

/** Who may have a zone, and who is told of its changes. */
export interface TransferRule {
  readonly zones: readonly DnsName[];
  readonly everybody: boolean;
  readonly to: readonly UpstreamServer[];
  /** To tell them from, where it is of their family. */
  readonly source: Ip | undefined;
}

/** What handlers of a running block are given. */
export interface BlockServices {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Meters;
  readonly dnsMetrics: DnsMetrics;
  /** 0 to 1. */
  readonly random: () => number;
  /** 0 to 65535, not to be guessed. */
  readonly randomId: () => number;
  /** Aborted when the block is taken out of service. */
  readonly stopped: AbortSignal;
  /** How many threads answer: what is bounded or kept is divided among them. */
  readonly workers: number;
  /** Whether this thread does what is to be done once. */
  readonly leads: boolean;
  readonly shared: SharedFacts;
  /** To be called by what answers by the question alone (`Handler.byQuestion`) when it answers otherwise from now on. */
  readonly changed: () => void;
  /** Asks the whole server, as a client would. */
  readonly ask: Handle;
  /** The newest compiled zone for these options. */
  readonly zone: (options: KubernetesOptions) => () => Zone;
  /** Whether an upstream address is one that this server itself listens on. */
  readonly isOurselves: (server: UpstreamServer) => boolean;
  readonly readText: (path: string) => Promise<string | undefined>;
  /** The block's labels in metrics. */
  readonly labels: { readonly server: string; readonly view: string };
}

export type MakeHandler = (services: BlockServices) => Handler;

/** A long task of a block, from start to stop. Never rejects. */
export type BackgroundTask = (services: BlockServices) => Promise<void>;

export interface BlockDoors {
  readonly readText: (path: string) => Promise<string | undefined>;
  /** The path of a file that the Corefile names. */
  readonly pathOf: (name: string, place: Place) => string;
  readonly warn: (message: string) => void;
  /** The addresses of a host name, asked of these servers; none when there are none to be had. */
  readonly resolve: (name: DnsName, servers: readonly UpstreamServer[]) => Promise<readonly Ip[]>;
}

/** The keys of a block that have a port in common. */
export interface Served {
  readonly zones: readonly DnsName[];
  readonly port: number;
  readonly scheme: Scheme;
}

/** Filled in by the plugins of one block. */
export class BlockDraft {
  readonly zones: readonly DnsName[];
  readonly port: number;
  readonly scheme: Scheme;
  readonly place: Place;
  readonly doors: BlockDoors;
  /** By plugin; a plugin may answer at more than one place of the chain. */
  readonly handlers = new Map<string, MakeHandler[]>();
  /** The plugins that it names. */
  readonly plugins = new Set<string>();
  readonly tasks: BackgroundTask[] = [];
  /** Run once all lines of the block have been read; they throw a CorefileError. */
  readonly checks: (() => void)[] = [];
  readonly queryLogs: QueryLog[] = [];
  readonly health: { address: HttpAddress; lameduckMs: number }[] = [];
  readonly ready: HttpAddress[] = [];
  readonly transferRules: TransferRule[] = [];
  readonly transferSources: ((services: BlockServices) => TransferSource)[] = [];
  /** Questions that the block is for, among those of its zones; undefined is all. */
  view: { readonly name: string; readonly fits: (asked: Asked) => boolean } | undefined;
  /** The name that `rewrite` asks for instead of another; undefined where it leaves it alone. */
  rename: ((name: DnsName) => DnsName | undefined) | undefined;
  /** What `metadata` knows of a question, by label. */
  notes: ((services: BlockServices) => (asked: Asked) => Map<string, string>) | undefined;
  readonly prometheus: HttpAddress[] = [];
  readonly pprof: HttpAddress[] = [];
  kubernetes: KubernetesPlugin | undefined;
  /** Where it listens; undefined is everywhere. */
  bind: readonly Ip[] | undefined;
  loadBalanced = false;
  /** Takes `RCODE name type` and why. */
  errorLog: ((services: BlockServices) => (head: string, why: string) => void) | undefined;
  timeouts: Timeouts | undefined;
  /** Sockets, and threads, that share each port. */
  sockets: number | 'cpus' | undefined;
  debugs = false;
  otherClasses = false;
  tls: TlsSetting | undefined;
  bufsize: number | undefined;
  nsid: string | undefined;
  header: HeaderRule | undefined;
  deadlineMs: number | undefined;
  reload: { intervalMs: number; jitterMs: number } | undefined;
  root: string | undefined;
  /** Servers that are forwarded to, for people. */
  readonly upstreams: string[] = [];
  /** What the end of the chain does with what no plugin answered. */
  end: Handle = nobodyAnswered;

  constructor({ zones, port, scheme }: Served, place: Place, doors: BlockDoors) {
    this.zones = zones;
    this.port = port;
    this.scheme = scheme;
    this.place = place;
    this.doors = doors;
  }

  answer(plugin: string, make: MakeHandler): void {
    this.handlers.set(plugin, [...(this.handlers.get(plugin) ?? []), make]);
  }
}

/** A plugin: what it makes of its lines in a server block. */
export interface PluginDefinition {
  readonly name: string;
  /** Whether a block may have it at most once. */
  readonly once: boolean;
  /** Throws a CorefileError. */
  readonly setup: (directive: Directive, draft: BlockDraft) => void | Promise<void>;
}

/** Whether a question is one of our own. */
export function isOwn(asked: Asked): boolean {
  return asked.client === undefined;
}
