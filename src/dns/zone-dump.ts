// A zone of the cluster as text, as it is answered now: for `/debug/zone`.

import type { Snapshot } from '../model/snapshot.ts';
import type { KubernetesOptions } from './block.ts';
import { recordText } from './text.ts';
import { nameText } from './wire/name.ts';
import { compileZone } from './zone/compile.ts';
import { PersistentMap } from '../lib/persistent-map.ts';
import { zoneRecords } from './zone/transfer.ts';

export interface ZoneDump {
  readonly zone: string;
  readonly ttl: number;
  readonly pods: string;
  /** Namespaces that have names. */
  readonly namespaces: readonly string[];
  readonly services: number;
  /** Of each Service, as a transfer sends them; of one namespace where that was asked for. */
  readonly records: readonly string[];
}

export function zoneDump(snapshot: Snapshot, options: KubernetesOptions, namespace: string | undefined): ZoneDump {
  const services =
    namespace === undefined
      ? snapshot.services
      : PersistentMap.from([...snapshot.services.entries()].filter(([key]) => key.startsWith(`${namespace}/`)));
  const zone = compileZone({ ...snapshot, services }, { ...options, selfIps: [] }, 0);
  return {
    zone: nameText(options.origin),
    ttl: options.ttl,
    pods: options.pods,
    namespaces: [...new Set([...zone.servicesIn.keys(), ...snapshot.namespaces.keys()])].sort(),
    services: zone.services.size,
    records: [...zoneRecords(zone)].map((record) => recordText(record)),
  };
}
