// kubernetes: the cluster's zone and reverse zones.

import type { BlockDraft, BlockServices, KubernetesOptions, PluginDefinition, TransferZone } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, notBuilt, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import type { Answer, Asked, Handler } from '../handler.ts';
import { resolveThrough, type ResolveOutside } from '../resolve-outside.ts';
import type { OwnedRecord } from '../wire/message.ts';
import { nameText, ROOT, type DnsName } from '../wire/name.ts';
import { CLASS_IN, RCODE } from '../wire/types.ts';
import { lookup, type Found } from '../zone/lookup.ts';
import { zoneRecords } from '../zone/transfer.ts';
import type { PodMode, Zone } from '../zone/zone.ts';

export interface KubernetesHandlerOptions {
  readonly zone: () => Zone;
  /** Undefined: an ExternalName that leads outside is answered as its CNAME alone. */
  readonly resolveOutside: ResolveOutside | undefined;
  /** Names in these that do not exist are handed on, also before the first Snapshot. */
  readonly fallthrough: readonly DnsName[];
}

const WHILE_THE_ZONE_STAYS = { until: Infinity };

/** Answers from the newest Zone; what is in none of its zones is handed on. */
export function kubernetesHandler({ zone, resolveOutside, fallthrough }: KubernetesHandlerOptions): Handler {
  return {
    name: 'kubernetes',
    byQuestion: true,
    handle: (asked, next): Answer => {
      const found = lookup(zone(), asked.query.key, asked.query.type);
      switch (found.kind) {
        case 'outside':
          return next(asked);
        case 'reply':
          if (isMissing(found) && zoneOf(asked.query.key, fallthrough) !== undefined) return next(asked);
          return { kind: 'reply', reply: found.reply, keep: WHILE_THE_ZONE_STAYS };
        case 'alias':
          return resolveOutside ? followed(found, asked, resolveOutside) : aliasReply(found, []);
      }
    },
  };
}

type Alias = Extract<Found, { kind: 'alias' }>;

async function followed(alias: Alias, asked: Asked, resolveOutside: ResolveOutside): Promise<Awaited<Answer>> {
  return aliasReply(alias, await resolveOutside(alias.target, asked.query.type));
}

function aliasReply(alias: Alias, records: readonly OwnedRecord[]): Awaited<Answer> {
  const answer = [...alias.answer, ...records];
  return { kind: 'reply', reply: { kind: 'records', answer, additional: [], origin: alias.zone.origin } };
}

function isMissing({ reply }: Extract<Found, { kind: 'reply' }>): boolean {
  return reply.kind === 'negative' && reply.rcode !== RCODE.NOERROR;
}

const OPTIONS = [
  'endpoint',
  'kubeconfig',
  'namespaces',
  'pods',
  'endpoint_pod_names',
  'ttl',
  'noendpoints',
  'fallthrough',
  'ignore',
  'startup_timeout',
  'apiserver_qps',
  'apiserver_burst',
  'apiserver_max_inflight',
];
const NOT_BUILT: ReadonlySet<string> = new Set(['tls', 'namespace_labels', 'labels', 'multicluster', 'zonal']);
const POD_MODES: ReadonlySet<string> = new Set(['disabled', 'insecure', 'verified']);
const DEFAULT_TTL = 5;

interface Draft {
  ttl: number;
  pods: PodMode;
  fallthrough: readonly DnsName[];
  namespaces: Set<string> | undefined;
  noEndpoints: boolean;
  endpointPodNames: boolean;
  ignoreEmptyService: boolean;
  kubeconfig: string | undefined;
  endpoint: string | undefined;
}

export const kubernetes: PluginDefinition = {
  name: 'kubernetes',
  once: true,
  setup: ({ args, options, place }, draft) => {
    const own = zones(args, place, draft.zones);
    const reverse = own.filter(isReverse);
    const [origin, ...others] = own.filter((zone) => !isReverse(zone));
    if (origin === undefined)
      throw new CorefileError(place, 'kubernetes needs a zone that is not a reverse zone, such as cluster.local');
    if (others.length > 0) throw notBuilt('kubernetes', `a second zone (${others.map(nameText).join(' ')})`, place);
    checkExclusive(options);
    const read: Draft = {
      ttl: DEFAULT_TTL,
      pods: 'disabled',
      fallthrough: [],
      namespaces: undefined,
      noEndpoints: false,
      endpointPodNames: false,
      ignoreEmptyService: false,
      kubeconfig: undefined,
      endpoint: undefined,
    };
    for (const option of options) readOption(option, own, read, draft);
    const zoneOptions: KubernetesOptions = {
      origin,
      reverse,
      ttl: read.ttl,
      pods: read.pods,
      ...(read.namespaces ? { namespaces: read.namespaces } : {}),
      noEndpoints: read.noEndpoints,
      endpointPodNames: read.endpointPodNames,
      ignoreEmptyService: read.ignoreEmptyService,
    };
    draft.kubernetes = { options: zoneOptions, target: { kubeconfig: read.kubeconfig, endpoint: read.endpoint } };
    draft.answer('kubernetes', (services: BlockServices) =>
      kubernetesHandler({
        zone: services.zone(zoneOptions),
        resolveOutside: resolveThrough(services.ask),
        fallthrough: read.fallthrough,
      }),
    );
    draft.transferSources.push((services) => {
      const zone = services.zone(zoneOptions);
      return (name) => (name === origin ? transferZone(zone()) : undefined);
    });
  },
};

function transferZone(zone: Zone): TransferZone | undefined {
  if (!zone.synced) return undefined;
  const { cluster, serial } = zone;
  const soa = { ...cluster.soa, owner: cluster.origin, klass: CLASS_IN };
  return { soa, serial, records: () => zoneRecords(zone) };
}

function isReverse(zone: DnsName): boolean {
  return zone.endsWith('\x07in-addr\x04arpa\0') || zone.endsWith('\x03ip6\x04arpa\0');
}

function checkExclusive(options: readonly Option[]): void {
  const named = (name: string): Option | undefined => options.find((option) => option.name === name);
  const labels = named('namespace_labels');
  if (labels && named('namespaces'))
    throw new CorefileError(labels.place, 'namespaces and namespace_labels exclude each other');
}

/** What applies: kubeconfig before endpoint; the client limits, which have no effect in CoreDNS either, are checked and said. */
function readOption(option: Option, own: readonly DnsName[], read: Draft, draft: BlockDraft): void {
  const { name, args, place } = option;
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
    case 'endpoint_pod_names':
      count(args, place, name, 0);
      read.endpointPodNames = true;
      return;
    case 'noendpoints':
      count(args, place, name, 0);
      read.noEndpoints = true;
      return;
    case 'ignore':
      if (args.length !== 1 || args[0] !== 'empty_service')
        throw new CorefileError(place, 'ignore takes one argument: empty_service');
      read.ignoreEmptyService = true;
      return;
    case 'kubeconfig':
      count(args, place, name, 1, 2);
      if (args.length === 2) throw notBuilt('kubernetes', 'a context of the kubeconfig', place);
      read.kubeconfig = draft.doors.pathOf(args[0] ?? '', place);
      return;
    case 'endpoint':
      count(args, place, name, 1, Infinity);
      if (args.length > 1) draft.doors.warn(`${place.file}:${place.line}: only the first endpoint is used`);
      read.endpoint = args[0];
      return;
    case 'startup_timeout':
      count(args, place, name, 1);
      duration(args[0] ?? '', place);
      draft.doors.warn(
        `${place.file}:${place.line}: startup_timeout has no effect: queries are taken from the start, and answered SERVFAIL where the zone is not known yet`,
      );
      return;
    case 'apiserver_qps':
    case 'apiserver_burst':
    case 'apiserver_max_inflight':
      count(args, place, name, 1);
      integer(args[0] ?? '', place, name, 0, 1_000_000);
      draft.doors.warn(
        `${place.file}:${place.line}: ${name} has no effect: the API server is read by list and watch alone`,
      );
      return;
    default:
      if (name === 'multicluster') checkMulticluster(option, own);
      if (NOT_BUILT.has(name)) throw notBuilt('kubernetes', `"${name}"`, place);
      throw unknownOption('kubernetes', name, place, OPTIONS);
  }
}

function checkMulticluster({ args, place }: Option, own: readonly DnsName[]): void {
  for (const zone of zones(args, place, []))
    if (!own.includes(zone))
      throw new CorefileError(place, `the multicluster zone ${nameText(zone)} is none of kubernetes' zones`);
}
