// Finding a name's answer in the zone.

import type { Ip } from '../../lib/ip.ts';
import type { ObjectKey } from '../../model/records.ts';
import { labelsOf, lowerName, originAt, type DnsName } from '../wire/name.ts';
import { addressData, addressType, srvData, txtData, type ResourceRecord } from '../wire/record.ts';
import { RCODE, RR } from '../wire/types.ts';
import type { Reply } from '../reply.ts';
import { addressRecord } from './service.ts';
import { podAddress } from './pod.ts';
import { reverseAddress } from './reverse.ts';
import { answersOf, ownersOf, type NameAnswers, type ServedZone, type ServiceAnswers, type Zone } from './zone.ts';

const A_RECORD_SIZE = 16;
const AAAA_RECORD_SIZE = 28;
const SPECIFICATION_VERSION = '1.1.0';
const VERSION_TTL = 28_800;
const MOST_ALIASES = 10;

/**
 * The types for which an ExternalName answers its CNAME. RFC 1034 section 4.3.2 would have it for every type; for
 * those that are not here an empty answer is what clusters are used to.
 */
const ALIAS_TYPES: ReadonlySet<number> = new Set([RR.A, RR.AAAA, RR.CNAME, RR.HTTPS, RR.SVCB, RR.TXT, RR.MX, RR.SRV]);

export type Found =
  | { readonly kind: 'reply'; readonly reply: Reply }
  /** The name is in none of the zones. */
  | { readonly kind: 'outside' }
  /** CNAME records that lead to a name that this server does not hold; its records are to be added. */
  | {
      readonly kind: 'alias';
      readonly answer: readonly ResourceRecord[];
      readonly target: DnsName;
      readonly zone: ServedZone;
    };

/** Looks a name (in lower case) and type of class IN up. Pure. */
export function lookup(zone: Zone, name: DnsName, type: number): Found {
  const served = servedZoneOf(zone, name);
  if (!served) return { kind: 'outside' };
  if (type === RR.AXFR || type === RR.IXFR) return replied({ kind: 'code', rcode: RCODE.REFUSED });
  const labels = labelsOf(name.slice(0, name.length - served.origin.length) + '\0').reverse();
  const [first, second] = labels;
  if (first === undefined) return apex(zone, served, type);
  if (first === 'dns' && second === 'ns' && labels.length === 2) return replied(ownAddresses(zone, served, type));
  if (first === 'dns-version' && labels.length === 1 && type === RR.TXT) return replied(version(served));
  if (served.reverse) return reverse(zone, served, labels, type);
  if (first !== 'svc' && first !== 'pod') return missing(zone, served);
  if (second === undefined) return nodata(served);
  if (labels.length === 2) return hasNamespace(zone, second, first) ? nodata(served) : missing(zone, served);
  return first === 'pod' ? pod(zone, served, labels, name, type) : service(zone, served, labels, type);
}

/** The zone that a name is in, or undefined. */
function servedZoneOf(zone: Zone, name: DnsName): ServedZone | undefined {
  if (originAt(name, zone.cluster.origin) >= 0) return zone.cluster;
  let best: ServedZone | undefined;
  for (const reverse of zone.reverseZones) {
    if (originAt(name, reverse.origin) >= 0 && !(best && best.origin.length > reverse.origin.length)) best = reverse;
  }
  return best;
}

function replied(reply: Reply): Found {
  return { kind: 'reply', reply };
}

function nodata(zone: ServedZone): Found {
  return replied({ kind: 'negative', rcode: RCODE.NOERROR, zone });
}

function missing(zone: Zone, served: ServedZone): Found {
  return replied({ kind: 'negative', rcode: zone.synced ? RCODE.NXDOMAIN : RCODE.SERVFAIL, zone: served });
}

/** With pods disabled nothing is below `pod`. A Service is proof of its namespace, listed or not. */
export function hasNamespace(zone: Zone, namespace: string, below: 'svc' | 'pod'): boolean {
  if (below === 'pod' && zone.options.pods === 'disabled') return false;
  const exposed = zone.options.namespaces;
  if (exposed && !exposed.has(namespace)) return false;
  const listed = zone.source?.namespaces.has(namespace) ?? false;
  return listed || (!zone.options.listedNamespaces && zone.servicesIn.has(namespace));
}

function apex(zone: Zone, served: ServedZone, type: number): Found {
  if (type === RR.SOA) return replied({ kind: 'records', answer: [served.soa], additional: [], origin: served.origin });
  if (type === RR.NS) return replied(nameServers(zone, served));
  return nodata(served);
}

function version(served: ServedZone): Reply {
  const record = { owner: undefined, type: RR.TXT, ttl: VERSION_TTL, data: txtData(SPECIFICATION_VERSION) };
  return { kind: 'records', answer: [record], additional: [], origin: served.origin };
}

/** The keys of the Services that have one of this server's addresses as an endpoint. */
export function ownServices(zone: Zone): readonly ObjectKey[] {
  const keys = zone.options.selfIps.flatMap((ip) =>
    ownersOf(zone, ip)
      .filter(({ cluster }) => !cluster)
      .map(({ service: key }) => key),
  );
  return [...new Set(keys)];
}

/** The names by which clients reach this server: those of the Services that have one of its addresses as an endpoint. */
function serversOf(zone: Zone): readonly NameAnswers[] {
  const found = new Map<DnsName, NameAnswers>();
  for (const ip of zone.options.selfIps) {
    for (const owner of ownersOf(zone, ip)) {
      const answers = answersOf(zone, owner.service);
      if (owner.cluster || answers?.kind !== 'addresses') continue;
      const label = owner.target.slice(1, 1 + owner.target.charCodeAt(0));
      const named = answers.headless ? answers.endpoints.get(label) : answers.apex;
      if (named) found.set(named.name, named);
    }
  }
  return [...found.values()];
}

export function nameServers(zone: Zone, served: ServedZone): Extract<Reply, { kind: 'records' }> {
  const { ttl } = zone.options;
  const servers = serversOf(zone);
  const own = served.soa.data.slice(0, served.soa.data.indexOf('\0') + 1) as DnsName;
  const names = servers.length > 0 ? servers.map((server) => server.name) : [own];
  return {
    kind: 'records',
    answer: names.map((name) => ({ owner: undefined, type: RR.NS, ttl, data: name })),
    additional:
      servers.length > 0
        ? servers.flatMap((server) => addressesOf(server, ttl))
        : zone.options.selfIps.map((ip) => ({ owner: own, type: addressType(ip), ttl, data: addressData(ip) })),
    origin: served.origin,
  };
}

function ownAddresses(zone: Zone, served: ServedZone, type: number): Reply {
  const servers = serversOf(zone);
  const own = (of: (server: NameAnswers) => string, family: number): string =>
    servers.length > 0
      ? servers.map(of).join('')
      : zone.options.selfIps
          .filter((ip) => addressType(ip) === family)
          .map((ip) => addressRecord(ip, zone.options.ttl))
          .join('');
  const body =
    type === RR.A ? own((server) => server.a, RR.A) : type === RR.AAAA ? own((server) => server.aaaa, RR.AAAA) : '';
  return addresses(body, type) ?? { kind: 'negative', rcode: RCODE.NOERROR, zone: served };
}

function addresses(body: string, type: number): Reply | undefined {
  if (body === '') return undefined;
  return { kind: 'addresses', body, recordSize: type === RR.A ? A_RECORD_SIZE : AAAA_RECORD_SIZE };
}

/** The A and AAAA records of a name that is not the question's, from their wire-ready form. */
export function addressesOf(answers: NameAnswers, ttl: number): ResourceRecord[] {
  const records: ResourceRecord[] = [];
  const cut = (body: string, size: number, type: number): void => {
    for (let at = 0; at < body.length; at += size)
      records.push({ owner: answers.name, type, ttl, data: body.slice(at + 12, at + size) });
  };
  cut(answers.a, A_RECORD_SIZE, RR.A);
  cut(answers.aaaa, AAAA_RECORD_SIZE, RR.AAAA);
  return records;
}

/** `labels` from the zone leftwards: svc, namespace, service, then what is below the Service. */
function service(zone: Zone, served: ServedZone, labels: readonly string[], type: number): Found {
  const answers = answersOf(zone, `${labels[1]}/${labels[2]}`);
  const isListed = !zone.options.listedNamespaces || hasNamespace(zone, labels[1] ?? '', 'svc');
  if (!answers || answers.kind === 'absent' || !isListed) return missing(zone, served);
  if (answers.kind === 'alias') return labels.length === 3 ? alias(zone, served, answers, type) : missing(zone, served);
  const left = labels.slice(3);
  const below = answers.zones && left.length > 2 ? inZone(answers, left) : belowService(zone, answers, left);
  if (below === 'empty') return nodata(served);
  return below ? typed(zone, served, below, type) : missing(zone, served);
}

type AddressService = Extract<ServiceAnswers, { kind: 'addresses' }>;

/** `labels` from the Service leftwards. `empty` is a name that only has names below it (RFC 8020). */
function belowService(
  zone: Zone,
  answers: AddressService,
  labels: readonly string[],
): NameAnswers | 'empty' | undefined {
  const [first, second] = labels;
  if (first === undefined) return answers.apex;
  if (second === undefined) {
    const endpoint = answers.endpoints.get(first);
    if (endpoint) return endpoint;
    return first.startsWith('_') && answers.protocols.has(first.slice(1)) ? 'empty' : undefined;
  }
  if (labels.length > 2) return undefined;
  const isPort = !zone.options.multicluster || first.startsWith('_') || second.startsWith('_');
  if (!isPort) return answers.endpoints.get(`${second}.${first}`);
  return answers.ports.get(`${bare(second)}/${bare(first)}`);
}

/**
 * `<topology zone>.pin._zone.<service>`, or `prefer` in place of `pin`: the endpoints of one zone, whose label may hold
 * dots. A zone without endpoints has no records, or with `prefer` those of the whole Service. `labels` from the Service
 * leftwards.
 */
function inZone({ zones, apex }: AddressService, labels: readonly string[]): NameAnswers | 'empty' | undefined {
  const [anchor, directive, ...zone] = labels;
  if (anchor !== '_zone' || (directive !== 'pin' && directive !== 'prefer')) return undefined;
  return zones?.get(zone.toReversed().join('.')) ?? (directive === 'prefer' ? apex : 'empty');
}

/** Clients may leave the underscores of port and protocol out. */
function bare(label: string): string {
  return label.startsWith('_') ? label.slice(1) : label;
}

function typed(zone: Zone, served: ServedZone, answers: NameAnswers, type: number): Found {
  if (type === RR.A || type === RR.AAAA) {
    const reply = addresses(type === RR.A ? answers.a : answers.aaaa, type);
    return reply ? replied(reply) : nodata(served);
  }
  if (type !== RR.SRV || answers.srv.length === 0) return nodata(served);
  const { ttl } = zone.options;
  const targets = new Set(answers.srv.map((srv) => srv.target));
  return replied({
    kind: 'records',
    answer: answers.srv.map((srv) => ({
      owner: undefined,
      type: RR.SRV,
      ttl,
      data: srvData(0, srv.weight, srv.port, srv.target.name),
    })),
    additional: [...targets].flatMap((target) => addressesOf(target, ttl)),
    origin: served.origin,
  });
}

type AliasService = Extract<ServiceAnswers, { kind: 'alias' }>;

/** Follows ExternalNames in the zone, at most ten; an address that is not to be had there is an empty answer. */
function alias(zone: Zone, served: ServedZone, first: AliasService, type: number): Found {
  if (!ALIAS_TYPES.has(type)) return nodata(served);
  const { ttl } = zone.options;
  const answer: ResourceRecord[] = [{ owner: undefined, type: RR.CNAME, ttl, data: first.target }];
  const bareAlias = replied({ kind: 'records', answer: [...answer], additional: [], origin: served.origin });
  if (type === RR.CNAME) return bareAlias;
  const isAddress = type === RR.A || type === RR.AAAA;
  let { target } = first;
  while (answer.length <= MOST_ALIASES) {
    const key = lowerName(target);
    if (!servedZoneOf(zone, key)) return { kind: 'alias', answer, target, zone: served };
    const next = aliasAt(zone, key);
    if (!next) {
      const records = recordsAt(zone, key, target, type);
      if (records.length === 0) break;
      return replied({ kind: 'records', answer: [...answer, ...records], additional: [], origin: served.origin });
    }
    answer.push({ owner: target, type: RR.CNAME, ttl, data: next.target });
    target = next.target;
  }
  return isAddress ? nodata(served) : bareAlias;
}

function aliasAt(zone: Zone, name: DnsName): AliasService | undefined {
  const at = originAt(name, zone.cluster.origin);
  const labels = at < 0 ? [] : labelsOf(`${name.slice(0, at)}\0`);
  if (labels.length !== 3 || labels[2] !== 'svc') return undefined;
  const answers = answersOf(zone, `${labels[1]}/${labels[0]}`);
  return answers?.kind === 'alias' ? answers : undefined;
}

/** What the name at the end of a chain of aliases holds of the type asked for, under its own name. */
function recordsAt(zone: Zone, key: DnsName, owner: DnsName, type: number): readonly ResourceRecord[] {
  const found = lookup(zone, key, type);
  if (found.kind !== 'reply') return [];
  if (found.reply.kind === 'records') return found.reply.answer.map((record) => ({ ...record, owner }));
  if (found.reply.kind !== 'addresses') return [];
  const { body } = found.reply;
  const answers: NameAnswers = {
    name: owner,
    a: type === RR.A ? body : '',
    aaaa: type === RR.AAAA ? body : '',
    srv: [],
  };
  return addressesOf(answers, zone.options.ttl);
}

/** Labels further left than the address are not looked at. */
function pod(zone: Zone, served: ServedZone, labels: readonly string[], name: DnsName, type: number): Found {
  const [, namespace = '', podName = ''] = labels;
  if (!hasNamespace(zone, namespace, 'pod')) return missing(zone, served);
  const ip = podAddress(podName, zone.options.pods);
  if (!ip) return missing(zone, served);
  if (zone.options.pods === 'verified' && !zone.pods.get(ip)?.includes(namespace)) return missing(zone, served);
  if (type === addressType(ip)) {
    const reply = addresses(addressRecord(ip, zone.options.ttl), type);
    return reply ? replied(reply) : nodata(served);
  }
  return type === RR.SRV ? replied(podService(zone, served, name, ip)) : nodata(served);
}

/** A Pod's name answers SRV with port 0: nothing is known of its ports, and peers found by SRV still get its name. */
function podService(zone: Zone, served: ServedZone, name: DnsName, ip: Ip): Reply {
  const { ttl } = zone.options;
  return {
    kind: 'records',
    answer: [{ owner: undefined, type: RR.SRV, ttl, data: srvData(0, 100, 0, name) }],
    additional: [{ owner: undefined, type: addressType(ip), ttl, data: addressData(ip) }],
    origin: served.origin,
  };
}

function reverse(zone: Zone, served: ServedZone, labels: readonly string[], type: number): Found {
  const ip = reverseAddress(served.origin, labels);
  const all = ip ? ownersOf(zone, ip) : [];
  const owners = zone.options.listedNamespaces
    ? all.filter(({ service: key }) => hasNamespace(zone, key.slice(0, key.indexOf('/')), 'svc'))
    : all;
  if (owners.length === 0) return missing(zone, served);
  if (type !== RR.PTR) return nodata(served);
  // A Service's own address is answered before endpoints that have the same one.
  const own = owners.find((owner) => owner.cluster);
  const targets = own ? [own.target] : [...new Set(owners.map((owner) => owner.target))];
  return replied({
    kind: 'records',
    answer: targets.map((target) => ({ owner: undefined, type: RR.PTR, ttl: zone.options.ttl, data: target })),
    additional: [],
    origin: served.origin,
  });
}
