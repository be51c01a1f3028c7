// A Pod of a manifest, as the EndpointSlice controller reads it.

import type { Ip } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { Protocol } from '../../model/records.ts';
import { readLabels, readMetadata } from '../parse/metadata.ts';
import { podEnded, readPodIPs } from '../parse/pod.ts';
import { parseWith, type Field, type Parsed } from '../parse/reader.ts';
import { PROTOCOLS } from '../parse/service.ts';

export interface ContainerPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: Port;
}

export interface PodTemplate {
  readonly namespace: string;
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  /** Empty while the Pod has none, and once it has ended (phase Succeeded or Failed). */
  readonly ips: readonly Ip[];
  readonly ready: boolean;
  readonly terminating: boolean;
  readonly nodeName: string | undefined;
  readonly hostname: string | undefined;
  readonly subdomain: string | undefined;
  /** Named ports of its containers, and of its sidecars. */
  readonly ports: readonly ContainerPort[];
}

export function parsePodTemplate(object: unknown): Parsed<PodTemplate> {
  return parseWith(object, 'strict', (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    const spec = root.get('spec');
    return {
      record: {
        ...metadata,
        labels: readLabels(root),
        ips: podEnded(root) ? [] : readPodIPs(root),
        ready: readReady(root.get('status')),
        terminating: root.get('metadata').get('deletionTimestamp').present,
        nodeName: spec.get('nodeName').text() || undefined,
        hostname: spec.get('hostname').text() || undefined,
        subdomain: spec.get('subdomain').text() || undefined,
        ports: readContainerPorts(spec),
      },
    };
  });
}

/** The Ready condition. A Pod that a person wrote without any condition is taken as running, unless its phase says not. */
function readReady(status: Field): boolean {
  const conditions = status.get('conditions').items();
  const phase = status.get('phase').text();
  if (conditions.length === 0) return phase === undefined || phase === 'Running';
  return conditions.some((field) => field.get('type').value === 'Ready' && isTrue(field.get('status')));
}

/** The API has the words "True" and "False"; YAML makes a boolean of an unquoted one. */
function isTrue(field: Field): boolean {
  return field.value === 'True' || field.value === true;
}

/** Init containers that restart always are sidecars (KEP-753); they run beside the others. */
function readContainerPorts(spec: Field): readonly ContainerPort[] {
  const sidecars = spec
    .get('initContainers')
    .items()
    .filter((container) => container.get('restartPolicy').value === 'Always');
  return [...spec.get('containers').items(), ...sidecars].flatMap((container) =>
    container
      .get('ports')
      .items()
      .flatMap((field) => {
        const protocolField = field.get('protocol');
        const protocol = protocolField.present ? protocolField.oneOf(PROTOCOLS) : 'TCP';
        const port = field.get('containerPort').port();
        const name = field.get('name').text();
        return protocol && port !== undefined && name ? [{ name, protocol, port }] : [];
      }),
  );
}
