// A Service of a manifest: its record before addresses and node ports are chosen, and what only the controllers of a
// cluster read (selector, target ports, families, distribution), which are played here.

import { ipFamily, type IpFamily } from '../../lib/ip.ts';
import type { Port } from '../../lib/port.ts';
import type { ServiceRecord } from '../../model/records.ts';
import { parseWith, type Field, type Parsed } from '../parse/reader.ts';
import { readService } from '../parse/service.ts';

export type TargetPort =
  | { readonly kind: 'number'; readonly number: Port }
  | { readonly kind: 'name'; readonly name: string };

export type FamilyPolicy = 'SingleStack' | 'PreferDualStack' | 'RequireDualStack';

export type TrafficDistribution = 'PreferClose' | 'PreferSameZone' | 'PreferSameNode';

export interface ServiceTemplate {
  readonly record: ServiceRecord;
  /** Undefined without one: the Service's endpoints are objects of their own. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** One for each port of the record, in its order. */
  readonly targetPorts: readonly TargetPort[];
  readonly publishNotReadyAddresses: boolean;
  /** `spec.ipFamilies`, or the families of the addresses that it names; empty leaves them to the cluster. */
  readonly families: readonly IpFamily[];
  readonly familyPolicy: FamilyPolicy | undefined;
  readonly distribution: TrafficDistribution | undefined;
  /** `allocateLoadBalancerNodePorts`, true for a NodePort Service. */
  readonly wantsNodePorts: boolean;
}

const NAME_PATTERN = /^(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

export function parseServiceTemplate(object: unknown): Parsed<ServiceTemplate> {
  return parseWith(object, 'strict', (root) => {
    const record = readService(root);
    if (!record) return undefined;
    const spec = root.get('spec');
    if (record.headless && (record.type === 'NodePort' || record.type === 'LoadBalancer')) {
      spec.get('clusterIP').problem(`Invalid value: "None": may not be set to 'None' for ${record.type} services`);
    }
    const selector = spec.get('selector').textMap();
    return {
      record: {
        record,
        selector: selector.size > 0 ? selector : undefined,
        targetPorts: spec
          .get('ports')
          .items()
          .flatMap((field) => readTargetPort(field) ?? []),
        publishNotReadyAddresses: spec.get('publishNotReadyAddresses').boolean() ?? false,
        families: readFamilies(spec, record),
        familyPolicy: spec.get('ipFamilyPolicy').oneOf(['SingleStack', 'PreferDualStack', 'RequireDualStack']),
        distribution: spec.get('trafficDistribution').oneOf(['PreferClose', 'PreferSameZone', 'PreferSameNode']),
        wantsNodePorts:
          record.type === 'NodePort' ||
          (record.type === 'LoadBalancer' && (spec.get('allocateLoadBalancerNodePorts').boolean() ?? true)),
      },
    };
  });
}

/** Absent, and 0, mean the port itself. A string of a manifest may hold digits only by mistake: names need a letter. */
function readTargetPort(port: Field): TargetPort | undefined {
  const field = port.get('targetPort');
  if (typeof field.value === 'string' && field.value !== '') {
    if (field.value.length > 15 || !NAME_PATTERN.test(field.value)) {
      field.invalid(
        "must be a number, or a name of at most 15 characters: lower case letters, digits and '-', with at least one letter",
      );
    }
    return { kind: 'name', name: field.value };
  }
  const source = field.present && field.value !== 0 && field.value !== '' ? field : port.get('port');
  // A port that is wrong has been complained about where it stands.
  if (source !== field)
    return typeof source.value === 'number' ? { kind: 'number', number: source.value as Port } : undefined;
  const number = source.port();
  return number === undefined ? undefined : { kind: 'number', number };
}

function readFamilies(spec: Field, record: ServiceRecord): readonly IpFamily[] {
  const fields = spec.get('ipFamilies').items();
  const families: IpFamily[] = [];
  for (const [index, field] of fields.entries()) {
    const text = field.oneOf(['IPv4', 'IPv6']);
    if (!text) continue;
    const family = text === 'IPv4' ? 4 : 6;
    if (families.includes(family)) field.problem(`Duplicate value: ${JSON.stringify(text)}`);
    const ip = record.clusterIPs[index];
    if (ip && ipFamily(ip) !== family) field.invalid(`spec.clusterIPs[${index}] is ${ip}`);
    families.push(family);
  }
  const [first, second] = record.clusterIPs;
  if (first && second && ipFamily(first) === ipFamily(second)) {
    spec.get('clusterIPs').invalid('may specify no more than one IP for each IP family');
  }
  for (const ip of record.clusterIPs) if (!families.includes(ipFamily(ip))) families.push(ipFamily(ip));
  return families;
}
