// kubernetes: the cluster's zones and reverse zones.

import type {
  BlockDraft,
  BlockServices,
  KubernetesOptions,
  KubernetesPlugin,
  PluginDefinition,
  TransferZone,
} from '../block.ts';
import { parseLabelSelector, type LabelSelector } from '../../lib/label-selector.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, unknownOption, zones } from '../corefile/words.ts';
import { kubernetesHandler } from '../kubernetes-handler.ts';
import { resolveThrough } from '../resolve-outside.ts';
import { nameText, ROOT, type DnsName } from '../wire/name.ts';
import { CLASS_IN } from '../wire/types.ts';
import { zoneRecords } from '../zone/transfer.ts';
import type { PodMode, Zone } from '../zone/zone.ts';

const OPTIONS = [
  'endpoint',
  'tls',
  'kubeconfig',
  'namespaces',
  'namespace_labels',
  'labels',
  'pods',
  'endpoint_pod_names',
  'ttl',
  'noendpoints',
  'fallthrough',
  'ignore',
  'multicluster',
  'zonal',
  'startup_timeout',
  'apiserver_qps',
  'apiserver_burst',
  'apiserver_max_inflight',
];
const POD_MODES: ReadonlySet<string> = new Set(['disabled', 'insecure', 'verified']);
const DEFAULT_TTL = 5;
const STARTUP_TIMEOUT_MS = 5000;

interface Draft {
  ttl: number;
  pods: PodMode;
  fallthrough: readonly DnsName[];
  namespaces: Set<string> | undefined;
  multicluster: readonly DnsName[];
  noEndpoints: boolean;
  endpointPodNames: boolean;
  ignoreEmptyService: boolean;
  zonal: boolean;
  labels: LabelSelector | undefined;
  namespaceLabels: LabelSelector | undefined;
  target: { kubeconfig?: string; context?: string; endpoint?: string; tls?: { cert: string; key: string; ca: string } };
  startupTimeoutMs: number;
}

export const kubernetes: PluginDefinition = {
  name: 'kubernetes',
  once: true,
  setup: ({ args, options, place }, draft) => {
    const own = zones(args, place, draft.zones);
    const reverse = own.filter(isReverse);
    const forward = own.filter((zone) => !isReverse(zone));
    const [origin] = forward;
    if (origin === undefined)
      throw new CorefileError(place, 'kubernetes needs a zone that is not a reverse zone, such as cluster.local');
    const read: Draft = {
      ttl: DEFAULT_TTL,
      pods: 'disabled',
      fallthrough: [],
      namespaces: undefined,
      multicluster: [],
      noEndpoints: false,
      endpointPodNames: false,
      ignoreEmptyService: false,
      zonal: false,
      labels: undefined,
      namespaceLabels: undefined,
      target: {},
      startupTimeoutMs: STARTUP_TIMEOUT_MS,
    };
    for (const option of options) readOption(option, own, read, draft);
    checkTogether(options);
    // The first zone is that of reverse names.
    const zoneOptions = forward.map((zone) => optionsOf(zone, zone === origin ? reverse : [], read));
    const plugin: KubernetesPlugin = {
      options: zoneOptions[0] ?? optionsOf(origin, reverse, read),
      zones: zoneOptions,
      target: read.target,
      selectors: {
        ...(read.labels ? { objects: read.labels } : {}),
        ...(read.namespaceLabels ? { namespaces: read.namespaceLabels } : {}),
      },
      startupTimeoutMs: read.startupTimeoutMs,
      place,
    };
    draft.kubernetes = plugin;
    // A zone within another one is asked first.
    for (const zone of zoneOptions.toSorted((a, b) => b.origin.length - a.origin.length))
      answerFor(zone, plugin, read.fallthrough, draft);
  },
};

function optionsOf(origin: DnsName, reverse: readonly DnsName[], read: Draft): KubernetesOptions {
  const multicluster = read.multicluster.includes(origin);
  return {
    origin,
    reverse,
    ttl: read.ttl,
    pods: read.pods,
    ...(read.namespaces ? { namespaces: read.namespaces } : {}),
    ...(read.namespaceLabels ? { listedNamespaces: true } : {}),
    noEndpoints: read.noEndpoints,
    endpointPodNames: read.endpointPodNames,
    ignoreEmptyService: read.ignoreEmptyService,
    ...(read.zonal && !multicluster ? { zonal: true } : {}),
    ...(multicluster ? { multicluster } : {}),
  };
}

function answerFor(
  options: KubernetesOptions,
  { startupTimeoutMs }: KubernetesPlugin,
  fallthrough: readonly DnsName[],
  draft: BlockDraft,
): void {
  draft.answer('kubernetes', (services: BlockServices) => {
    const zone = services.zone(options);
    const first = new FirstSync(() => zone().synced, startupTimeoutMs, services);
    const resolveOutside = resolveThrough(services.ask);
    return kubernetesHandler({ zone, resolveOutside, fallthrough, firstSync: () => first.wait() });
  });
  draft.transferSources.push((services) => {
    const zone = services.zone(options);
    return (name) => (name === options.origin ? transferZone(zone()) : undefined);
  });
}

const LOOK_AGAIN_MS = 20;
/** Questions that may wait for the first Snapshot; more are answered as they can be. */
const MOST_WAITING = 1000;

/** Holds questions back at the start, until the cluster has been read or `startup_timeout` is over. */
class FirstSync {
  readonly #synced: () => boolean;
  readonly #services: BlockServices;
  readonly #until: number;
  #waiting = 0;
  #looking: Promise<void> | undefined;

  constructor(synced: () => boolean, timeoutMs: number, services: BlockServices) {
    this.#synced = synced;
    this.#services = services;
    this.#until = services.clock.monotonic() + timeoutMs;
  }

  wait(): Promise<void> | undefined {
    const { clock, stopped } = this.#services;
    if (stopped.aborted || this.#waiting >= MOST_WAITING || clock.monotonic() >= this.#until) return undefined;
    this.#waiting++;
    this.#looking ??= this.#look();
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { clock, stopped } = this.#services;
    while (!this.#synced() && !stopped.aborted && clock.monotonic() < this.#until)
      await clock.sleep(LOOK_AGAIN_MS, stopped);
    this.#waiting = 0;
    this.#looking = undefined;
  }
}

function transferZone(zone: Zone): TransferZone | undefined {
  if (!zone.synced) return undefined;
  const { cluster, serial } = zone;
  const soa = { ...cluster.soa, owner: cluster.origin, klass: CLASS_IN };
  return { soa, serial, records: () => zoneRecords(zone) };
}

function isReverse(zone: DnsName): boolean {
  return zone.endsWith('\x07in-addr\x04arpa\0') || zone.endsWith('\x03ip6\x04arpa\0');
}

function checkTogether(options: readonly Option[]): void {
  const named = (name: string): Option | undefined => options.find((option) => option.name === name);
  const labels = named('namespace_labels');
  if (labels && named('namespaces'))
    throw new CorefileError(labels.place, 'namespaces and namespace_labels exclude each other');
  const zonal = named('zonal');
  if (zonal && named('noendpoints'))
    throw new CorefileError(
      zonal.place,
      'zonal and noendpoints exclude each other: zonal names are those of endpoints',
    );
}

/** What applies: kubeconfig before endpoint; the client limits, which have no effect in CoreDNS either, are checked and said. */
function readOption(option: Option, own: readonly DnsName[], read: Draft, draft: BlockDraft): void {
  const { name, args, place } = option;
  const pathOf = (word: string | undefined): string => draft.doors.pathOf(word ?? '', place);
  switch (name) {
    case 'ttl':
      count(args, place, name, 1);
      read.ttl = integer(args[0] ?? '', place, 'ttl', 0, 3600);
      return;
    case 'pods': {
      count(args, place, name, 1);
      const [mode = ''] = args;
      if (!POD_MODES.has(mode)) throw new CorefileError(place, `pods is disabled, insecure or verified, not "${mode}"`);
      read.pods = mode as PodMode;
      return;
    }
    case 'fallthrough':
      read.fallthrough = zones(args, place, [ROOT]);
      return;
    case 'namespaces':
      count(args, place, name, 1, Infinity);
      read.namespaces = new Set([...(read.namespaces ?? []), ...args]);
      return;
    case 'namespace_labels':
      read.namespaceLabels = selector(name, args, place);
      return;
    case 'labels':
      read.labels = selector(name, args, place);
      return;
    case 'multicluster':
      read.multicluster = zones(args, place, []);
      for (const zone of read.multicluster)
        if (!own.includes(zone))
          throw new CorefileError(place, `the multicluster zone ${nameText(zone)} is none of kubernetes' zones`);
      return;
    case 'endpoint_pod_names':
      count(args, place, name, 0);
      read.endpointPodNames = true;
      return;
    case 'noendpoints':
      count(args, place, name, 0);
      read.noEndpoints = true;
      return;
    case 'zonal':
      count(args, place, name, 0);
      read.zonal = true;
      return;
    case 'ignore':
      if (args.length !== 1 || args[0] !== 'empty_service')
        throw new CorefileError(place, 'ignore takes one argument: empty_service');
      read.ignoreEmptyService = true;
      return;
    case 'kubeconfig':
      count(args, place, name, 1, 2);
      read.target.kubeconfig = pathOf(args[0]);
      if (args[1] !== undefined) read.target.context = args[1];
      return;
    case 'endpoint':
      count(args, place, name, 1, Infinity);
      if (args.length > 1) draft.doors.warn(`${place.file}:${place.line}: only the first endpoint is used`);
      read.target.endpoint = args[0] ?? '';
      return;
    case 'tls':
      count(args, place, name, 3);
      read.target.tls = { cert: pathOf(args[0]), key: pathOf(args[1]), ca: pathOf(args[2]) };
      return;
    case 'startup_timeout':
      count(args, place, name, 1);
      read.startupTimeoutMs = duration(args[0] ?? '', place);
      return;
    case 'apiserver_qps':
    case 'apiserver_burst':
    case 'apiserver_max_inflight':
      count(args, place, name, 1);
      clientLimit(name, args[0] ?? '', place, draft);
      return;
    default:
      throw unknownOption('kubernetes', name, place, OPTIONS);
  }
}

function selector(name: string, args: readonly string[], place: Place): LabelSelector {
  const text = args.join(' ');
  const found = parseLabelSelector(text);
  if (!found) throw new CorefileError(place, `${name}: "${text}" is no label selector, such as app=web,tier!=back`);
  return found;
}

/** A few long requests are all that is asked of the API server. */
function clientLimit(name: string, text: string, place: Place, draft: BlockDraft): void {
  if (name === 'apiserver_qps') {
    if (!/^[0-9]{1,7}(?:\.[0-9]{1,6})?$/.test(text))
      throw new CorefileError(place, `${name} is a number from 0 on, not "${text}"`);
  } else integer(text, place, name, 0, 1_000_000);
  draft.doors.warn(
    `${place.file}:${place.line}: ${name} has no effect: the API server is read by list and watch alone`,
  );
}
