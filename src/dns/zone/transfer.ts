// The cluster's zone as a transfer sends it: Services by name; no Pods, no endpoints of Services with an address.

import type { OwnedRecord } from '../wire/message.ts';
import { prependLabel, type DnsName } from '../wire/name.ts';
import { srvData, type ResourceRecord } from '../wire/record.ts';
import { CLASS_IN, RR } from '../wire/types.ts';
import { addressesOf, nameServers } from './lookup.ts';
import type { DnsServiceRecord } from './source.ts';
import { answersOf, type NameAnswers, type ServiceAnswers, type Zone } from './zone.ts';

/** A query shares the weight among all candidates; here each port of an address counts for itself. */
const WEIGHT = 100;

/** Everything but the SOA. */
export function* zoneRecords(zone: Zone): Generator<OwnedRecord> {
  const { origin } = zone.cluster;
  const { answer, additional } = nameServers(zone, zone.cluster);
  for (const record of [...answer, ...additional]) yield owned(record, origin);
  const keys = [...zone.services.keys()].toSorted((a, b) => (nameFirst(a) < nameFirst(b) ? -1 : 1));
  for (const key of keys) {
    const answers = answersOf(zone, key);
    const record = zone.services.get(key)?.record;
    if (answers && record) yield* serviceRecords(zone, answers, record);
  }
}

/** In order of name, then namespace. */
function nameFirst(key: string): string {
  return key.split('/').toReversed().join('/');
}

function* serviceRecords(zone: Zone, answers: ServiceAnswers, record: DnsServiceRecord): Generator<OwnedRecord> {
  const { ttl } = zone.options;
  if (answers.kind === 'absent') return;
  if (answers.kind === 'alias') {
    yield { owner: answers.name, klass: CLASS_IN, type: RR.CNAME, ttl, data: answers.target };
    return;
  }
  const { apex, endpoints, headless } = answers;
  for (const address of addressesOf(apex, ttl)) yield owned(address, apex.name);
  if (headless) {
    yield* headlessRecords(zone, answers.ports, endpoints);
    return;
  }
  for (const { name, protocol, port } of record.ports) {
    const srv = { klass: CLASS_IN, type: RR.SRV, ttl, data: srvData(0, WEIGHT, port, apex.name) };
    yield { owner: apex.name, ...srv };
    const owner = portOwner(apex.name, name, protocol);
    if (owner) yield { owner, ...srv };
  }
}

function* headlessRecords(
  zone: Zone,
  ports: ReadonlyMap<string, NameAnswers>,
  endpoints: ReadonlyMap<string, NameAnswers>,
): Generator<OwnedRecord> {
  const { ttl } = zone.options;
  for (const endpoint of endpoints.values())
    for (const address of addressesOf(endpoint, ttl)) yield owned(address, endpoint.name);
  for (const [key, { name, srv }] of ports) {
    const [port = '', protocol = ''] = key.split('/');
    const owner = portOwner(name, port, protocol);
    for (const { weight, port: number, target } of srv) {
      if (owner) yield { owner, klass: CLASS_IN, type: RR.SRV, ttl, data: srvData(0, weight, number, target.name) };
    }
  }
}

/** A port without a name has no SRV record of its own (specification 1.1.0 section 2.3.2). */
function portOwner(service: DnsName, port: string, protocol: string): DnsName | undefined {
  const parent = prependLabel(`_${protocol.toLowerCase()}`, service);
  return port === '' || !parent ? undefined : prependLabel(`_${port.toLowerCase()}`, parent);
}

function owned(record: ResourceRecord, origin: DnsName): OwnedRecord {
  return { ...record, owner: record.owner ?? origin, klass: CLASS_IN };
}
