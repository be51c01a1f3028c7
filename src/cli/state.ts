// The Snapshot and the planes as JSON: what `fairlead state`, `/state` and the status page show. No Secret's content is in it.

import type { PersistentMap } from '../lib/persistent-map.ts';
import type { ResolvedPort, ResolvedService, Snapshot } from '../model/snapshot.ts';

export interface StateInput {
  readonly version: string;
  readonly snapshot: Snapshot | undefined;
  readonly planes: Readonly<Record<string, unknown>>;
}

export function stateJson({ version, snapshot, planes }: StateInput): unknown {
  return { version, snapshot: snapshot ? snapshotJson(snapshot) : null, planes };
}

function snapshotJson(snapshot: Snapshot): unknown {
  return {
    revision: snapshot.revision,
    node: snapshot.node,
    services: mapJson(snapshot.services, serviceJson),
    namespaces: [...snapshot.namespaces.keys()].sort(),
    pods: mapJson(snapshot.pods, ({ ip }) => ip),
    ingresses: mapJson(snapshot.ingresses, ({ namespace: _namespace, name: _name, ...rest }) => rest),
    ingressClasses: mapJson(snapshot.ingressClasses, (record) => record),
    secrets: [...snapshot.secrets.keys()].sort(),
    configMaps: [...snapshot.configMaps.keys()].sort(),
    serviceCIDRs: snapshot.serviceCIDRs,
  };
}

function serviceJson(service: ResolvedService): unknown {
  const { record, carried, ports } = service;
  return {
    type: record.type,
    headless: record.headless,
    externalName: record.externalName,
    carried: carried.kind === 'carried' ? true : `no: ${carried.reason}`,
    ports: Object.fromEntries(ports.map((port) => [port.key, portJson(port)])),
  };
}

function portJson(port: ResolvedPort): unknown {
  const { key: _key, endpoints, ...rest } = port;
  return { ...rest, endpoints: endpoints.length };
}

function mapJson<V>(map: PersistentMap<V>, toJson: (value: V) => unknown): unknown {
  const sorted = [...map.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(sorted.map(([key, value]) => [key, toJson(value)]));
}
