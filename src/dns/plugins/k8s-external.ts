// k8s_external: Services by their external addresses, in zones of their own.

import type { Ip } from '../../lib/ip.ts';
import { answered } from '../answers.ts';
import type { BlockServices, PluginDefinition, TransferZone } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, integer, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import { ExternalOwners, findExternal, ownExternalIps, targetsOf, type ExternalTarget } from '../external-services.ts';
import type { Answer, Asked, Handler, Outcome } from '../handler.ts';
import { resolveThrough, type ResolveOutside } from '../resolve-outside.ts';
import type { OwnedRecord } from '../wire/message.ts';
import { labelsOf, parseName, prependLabel, ROOT, type DnsName } from '../wire/name.ts';
import { addressData, addressType, soaData, srvData, type ResourceRecord } from '../wire/record.ts';
import { CLASS_IN, RCODE, RR } from '../wire/types.ts';
import { reverseAddress } from '../zone/reverse.ts';
import type { DnsService } from '../zone/source.ts';
import type { Zone } from '../zone/zone.ts';

interface ExternalOptions {
  readonly zones: readonly DnsName[];
  readonly apex: string;
  readonly ttl: number;
  readonly headless: boolean;
  readonly fallthrough: readonly DnsName[];
}

class ExternalNames {
  readonly #options: ExternalOptions;
  readonly #zone: () => Zone;
  readonly #resolveOutside: ResolveOutside;
  readonly #owners = new ExternalOwners();
  readonly handler: Handler;

  constructor(options: ExternalOptions, zone: () => Zone, resolveOutside: ResolveOutside) {
    this.#options = options;
    this.#zone = zone;
    this.#resolveOutside = resolveOutside;
    this.handler = {
      name: 'k8s_external',
      handle: (asked, next) => {
        const { key, type } = asked.query;
        const origin = zoneOf(key, options.zones);
        if (origin === undefined) return next(asked);
        if (type === RR.AXFR || type === RR.IXFR)
          return { kind: 'reply', reply: { kind: 'code', rcode: RCODE.REFUSED } };
        const labels = labelsOf(`${key.slice(0, key.length - origin.length)}\0`).reverse();
        if (labels.length === 0) return this.#apex(asked, origin);
        if (labels[0] === options.apex) return this.#belowApex(asked, origin, labels);
        const fall = (): Answer | undefined =>
          zoneOf(key, options.fallthrough) === undefined ? undefined : next(asked);
        return this.#service(asked, origin, labels, fall);
      },
    };
  }

  /** Asks the cluster's zone; `fall` hands names that do not exist on, where that is wanted. */
  #service(asked: Asked, origin: DnsName, labels: readonly string[], fall: () => Answer | undefined): Answer {
    const zone = this.#zone();
    const missing = (): Answer => {
      const rcode = zone.synced ? RCODE.NXDOMAIN : RCODE.SERVFAIL;
      return fall() ?? answered({ rcode, authority: [this.#soa(origin)] });
    };
    const { type } = asked.query;
    const reversed = type === RR.PTR ? reverseAddress(origin, labels) : undefined;
    if (reversed) {
      const pointers = this.#pointers(zone, reversed);
      return pointers.length > 0 ? answered({ answer: pointers }) : missing();
    }
    const found = findExternal(zone, labels, this.#options.headless);
    if (found.kind === 'missing') return missing();
    if (found.kind === 'targets') {
      const { service, targets } = found;
      if (type === RR.A || type === RR.AAAA) return this.#addresses(targets, asked, origin);
      if (type === RR.SRV) return this.#ports(service, targets, asked, origin);
    }
    return answered({ authority: [this.#soa(origin)] });
  }

  #pointers(zone: Zone, ip: Ip): readonly ResourceRecord[] {
    const [origin = ROOT] = this.#options.zones;
    return this.#owners.of(zone, ip).flatMap((key) => {
      const target = nameOf(key, origin);
      return target ? [{ owner: undefined, type: RR.PTR, ttl: this.#options.ttl, data: target }] : [];
    });
  }

  async #addresses(targets: readonly ExternalTarget[], asked: Asked, origin: DnsName): Promise<Outcome> {
    const { ttl } = this.#options;
    const { type } = asked.query;
    const answer: ResourceRecord[] = [];
    const seen = new Set<string>();
    for (const { host } of targets) {
      const text = host.kind === 'ip' ? host.ip : host.name;
      if (seen.has(text)) continue;
      seen.add(text);
      if (host.kind === 'ip') {
        if (addressType(host.ip) === type) answer.push({ owner: undefined, type, ttl, data: addressData(host.ip) });
        continue;
      }
      const target = parseName(host.name);
      if (!target) continue;
      answer.push({ owner: undefined, type: RR.CNAME, ttl, data: target });
      answer.push(...(await this.#resolveOutside(target, type, asked)));
    }
    return answered({ answer, authority: answer.length > 0 ? [] : [this.#soa(origin)] });
  }

  async #ports(
    service: DnsService,
    targets: readonly ExternalTarget[],
    asked: Asked,
    origin: DnsName,
  ): Promise<Outcome> {
    const answer: ResourceRecord[] = [];
    const additional: ResourceRecord[] = [];
    const seen = new Set<string>();
    const weight = Math.max(1, Math.floor(100 / targets.length));
    for (const { host, port, endpoint } of targets) {
      const own = nameOf(service.key, origin);
      const target = host.kind === 'name' ? parseName(host.name) : endpoint && own ? prependLabel(endpoint, own) : own;
      if (!target || port === undefined) continue;
      if (!seen.has(`${port} ${target}`))
        answer.push({ owner: undefined, type: RR.SRV, ttl: this.#options.ttl, data: srvData(0, weight, port, target) });
      seen.add(`${port} ${target}`);
      const address = `${target} ${host.kind === 'ip' ? host.ip : ''}`;
      if (seen.has(address)) continue;
      seen.add(address);
      additional.push(...(await this.#hostRecords(host, target, asked)));
    }
    return answered({ answer, additional, authority: answer.length > 0 ? [] : [this.#soa(origin)] });
  }

  async #hostRecords(host: ExternalTarget['host'], target: DnsName, asked: Asked): Promise<readonly ResourceRecord[]> {
    if (host.kind === 'ip')
      return [{ owner: target, type: addressType(host.ip), ttl: this.#options.ttl, data: addressData(host.ip) }];
    const [fours, sixes] = [RR.A, RR.AAAA].map((type) => this.#resolveOutside(target, type, asked));
    return [...((await fours) ?? []), ...((await sixes) ?? [])];
  }

  #apex({ query }: Asked, origin: DnsName): Outcome {
    if (query.type === RR.SOA) return answered({ answer: [this.#soa(origin)] });
    if (query.type !== RR.NS) return answered({ authority: [this.#soa(origin)] });
    const [server, ...glue] = this.#servers(origin);
    return answered({ answer: server ? [server] : [], additional: glue });
  }

  /** `dns.<zone>` has only `ns1` below it. */
  #belowApex({ query }: Asked, origin: DnsName, labels: readonly string[]): Outcome {
    const isServer = labels.length === 2 && labels[1] === 'ns1';
    const exists = labels.length === 1 || isServer;
    const answer = isServer ? this.#servers(origin).filter(({ type }) => type === query.type && type !== RR.NS) : [];
    if (answer.length > 0) return answered({ answer: answer.map((record) => ({ ...record, owner: undefined })) });
    return answered({ rcode: exists ? RCODE.NOERROR : RCODE.NXDOMAIN, authority: [this.#soa(origin)] });
  }

  /** The NS record, and the addresses of the server that it names. */
  #servers(origin: DnsName): readonly OwnedRecord[] {
    const { ttl, headless } = this.#options;
    const server = this.#below(origin, 'ns1');
    const ips = ownExternalIps(this.#zone(), headless);
    return [
      { owner: origin, klass: CLASS_IN, type: RR.NS, ttl, data: server },
      ...ips.map((ip) => ({ owner: server, klass: CLASS_IN, type: addressType(ip), ttl, data: addressData(ip) })),
    ];
  }

  #below(origin: DnsName, label: string): DnsName {
    const apex = prependLabel(this.#options.apex, origin);
    const name = apex && prependLabel(label, apex);
    if (!name) throw new RangeError('the zone leaves no room for names in it');
    return name;
  }

  #soa(origin: DnsName): OwnedRecord {
    const { ttl } = this.#options;
    const data = soaData({
      primary: this.#below(origin, 'ns1'),
      mailbox: this.#below(origin, 'hostmaster'),
      serial: this.#zone().serial,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: ttl,
    });
    return { owner: origin, klass: CLASS_IN, type: RR.SOA, ttl, data };
  }

  transfer(origin: DnsName): TransferZone | undefined {
    if (!this.#options.zones.includes(origin)) return undefined;
    const zone = this.#zone();
    return { soa: this.#soa(origin), serial: zone.serial, records: () => this.#all(zone, origin) };
  }

  /** Host names are CNAMEs here: whoever has the zone follows them himself. */
  *#all(zone: Zone, origin: DnsName): Generator<OwnedRecord> {
    yield* this.#servers(origin);
    const { ttl, headless } = this.#options;
    const services = [...(zone.source?.services.values() ?? [])].toSorted((a, b) => (a.key < b.key ? -1 : 1));
    for (const service of services) {
      const own = nameOf(service.key, origin);
      if (!own || findExternal(zone, service.key.split('/'), headless).kind !== 'targets') continue;
      const seen = new Set<string>();
      const targets = targetsOf(service, zone, headless);
      const weight = Math.max(1, Math.floor(100 / targets.length));
      const records = targets.flatMap((target) => recordsOf(target, own, ttl, weight));
      for (const record of records) {
        const id = `${record.owner} ${record.type} ${record.data}`;
        if (!seen.has(id)) yield record;
        seen.add(id);
      }
    }
  }
}

function recordsOf(
  { host, port, portName, protocol, endpoint }: ExternalTarget,
  own: DnsName,
  ttl: number,
  weight: number,
): readonly OwnedRecord[] {
  const records: OwnedRecord[] = [];
  const add = (owner: DnsName | undefined, type: number, data: string | undefined): void => {
    if (owner && data !== undefined) records.push({ owner, klass: CLASS_IN, type, ttl, data });
  };
  const label = endpoint === undefined ? undefined : prependLabel(endpoint, own);
  const target = host.kind === 'name' ? parseName(host.name) : (label ?? own);
  if (host.kind === 'name') add(own, RR.CNAME, target);
  else for (const owner of [own, label]) add(owner, addressType(host.ip), addressData(host.ip));
  if (!target || port === undefined) return records;
  add(own, RR.SRV, srvData(0, weight, port, target));
  const below = prependLabel(`_${protocol.toLowerCase()}`, own);
  if (portName !== '' && below)
    add(prependLabel(`_${portName.toLowerCase()}`, below), RR.SRV, srvData(0, weight, port, target));
  return records;
}

/** `<service>.<namespace>.<zone>`. */
function nameOf(key: string, origin: DnsName): DnsName | undefined {
  const [namespace = '', name = ''] = key.split('/');
  const parent = prependLabel(namespace, origin);
  return parent && prependLabel(name, parent);
}

const OPTIONS = ['apex', 'ttl', 'headless', 'fallthrough'];
const DEFAULT_TTL = 5;

export const k8sExternal: PluginDefinition = {
  name: 'k8s_external',
  once: true,
  setup: ({ args, options, place }, draft) => {
    const read = { apex: 'dns', ttl: DEFAULT_TTL, headless: false, fallthrough: [] as readonly DnsName[] };
    for (const option of options) {
      const { name, args: words, place: at } = option;
      if (name === 'apex') {
        count(words, at, name, 1);
        read.apex = (words[0] ?? '').toLowerCase();
        if (!parseName(read.apex) || read.apex.includes('.')) throw new CorefileError(at, 'apex takes one label');
      } else if (name === 'ttl') {
        count(words, at, name, 1);
        read.ttl = integer(words[0] ?? '', at, name, 0, 3600);
      } else if (name === 'headless') read.headless = true;
      else if (name === 'fallthrough') read.fallthrough = zones(words, at, [ROOT]);
      else throw unknownOption('k8s_external', name, at, OPTIONS);
    }
    const own = zones(args, place, draft.zones);
    const made = new WeakMap<BlockServices, ExternalNames>();
    const namesOf = (services: BlockServices): ExternalNames | undefined => {
      const options2 = draft.kubernetes?.options;
      if (!options2) return undefined;
      const known = made.get(services);
      if (known) return known;
      const names = new ExternalNames({ ...read, zones: own }, services.zone(options2), resolveThrough(services.ask));
      made.set(services, names);
      return names;
    };
    draft.checks.push(() => {
      if (!draft.kubernetes)
        throw new CorefileError(place, 'k8s_external needs the plugin kubernetes in the same server block');
    });
    draft.answer('k8s_external', (services) => {
      const handler = namesOf(services)?.handler;
      if (!handler) throw new Error('k8s_external without kubernetes has been checked');
      return handler;
    });
    draft.transferSources.push((services) => (zone) => namesOf(services)?.transfer(zone));
  },
};
