// Why a name is answered as it is: which plugin, from which object, and what a client's search path makes of it. Pure.

import { nearestName } from '../lib/edit-distance.ts';
import type { ResolvedService, Snapshot } from '../model/snapshot.ts';
import type { KubernetesOptions } from './block.ts';
import { zoneOf } from './corefile/words.ts';
import { resolveName, type TextAnswer } from './text.ts';
import { labelsOf, lowerName, nameText, originAt, parseName, type DnsName } from './wire/name.ts';
import { typeCode } from './wire/types.ts';
import { compileZone } from './zone/compile.ts';
import { podAddress } from './zone/pod.ts';
import { reverseAddress } from './zone/reverse.ts';
import { dashedIp, endpointLabel } from './zone/service.ts';
import { answersOf, ownersOf, type Zone } from './zone/zone.ts';

/** What a server block does with names, as far as that can be said without asking anybody. */
export interface ExplainedBlock {
  /** Its zones, as text. */
  readonly zones: readonly string[];
  /** The plugins that answer or change questions, in order. */
  readonly plugins: readonly string[];
  /** The name that is asked for instead of another; undefined where it is asked for itself. */
  readonly rename?: ((name: DnsName) => DnsName | undefined) | undefined;
  readonly kubernetes: readonly KubernetesOptions[];
  /** Servers that names outside are asked of; none where they are refused. */
  readonly upstreams: readonly string[];
}

export interface NameQuestion {
  readonly name: string;
  readonly type: string;
  /** Of the Pod that asks. */
  readonly namespace: string;
  readonly ndots: number;
}

export interface SearchStep {
  readonly name: string;
  readonly result: string;
}

export interface NameExplanation {
  readonly name: string;
  readonly type: string;
  /** NOERROR, NXDOMAIN, …, or NODATA for an empty answer; `asked upstream` for what is not the cluster's. */
  readonly result: string;
  readonly answers: readonly string[];
  readonly block: string;
  readonly plugin: string;
  /** The object that it comes from, such as `Service shop/web`. */
  readonly object: string | undefined;
  readonly why: string;
  readonly mend: string | undefined;
  /** What a Pod of the namespace asks one after the other (resolv.conf(5): search, ndots), up to the first answer. */
  readonly search: readonly SearchStep[];
}

export type ExplainedName =
  | { readonly kind: 'explanation'; readonly explanation: NameExplanation }
  | { readonly kind: 'mistake'; readonly message: string };

/** `blockOf` gives the block for a name, undefined where none is: then it is refused. */
export function explainName(
  question: NameQuestion,
  snapshot: Snapshot,
  blockOf: (name: DnsName) => ExplainedBlock | undefined,
): ExplainedName {
  const name = parseName(question.name);
  if (!name) return { kind: 'mistake', message: `"${question.name}" is no DNS name` };
  if (typeCode(question.type) === undefined)
    return { kind: 'mistake', message: `"${question.type}" is no record type` };
  const zones = new Map<KubernetesOptions, Zone>();
  const zoneFor = (options: KubernetesOptions): Zone => {
    const known = zones.get(options) ?? compileZone(snapshot, { ...options, selfIps: [] }, 0);
    zones.set(options, known);
    return known;
  };
  const asked = (one: DnsName): Said => said(one, question.type, blockOf(lowerName(one)), zoneFor, snapshot);
  const own = asked(name);
  return {
    kind: 'explanation',
    explanation: {
      name: nameText(name),
      type: question.type.toUpperCase(),
      ...own,
      search: searchSteps(question, name, blockOf, asked),
    },
  };
}

type Said = Omit<NameExplanation, 'name' | 'type' | 'search'>;

function said(
  name: DnsName,
  type: string,
  block: ExplainedBlock | undefined,
  zoneFor: (options: KubernetesOptions) => Zone,
  snapshot: Snapshot,
): Said {
  const nobody = { answers: [], object: undefined, mend: undefined };
  if (!block)
    return { ...nobody, result: 'REFUSED', block: 'none', plugin: 'none', why: 'no server block has this name' };
  const { rename, ...other } = block;
  const instead = rename?.(name);
  if (instead) {
    const told = said(instead, type, other, zoneFor, snapshot);
    return { ...told, why: `rewrite asks for ${nameText(instead)} in its place: ${told.why}` };
  }
  const key = lowerName(name);
  const at = block.zones.join(' ');
  const found = block.kubernetes.find(({ origin, reverse = [] }) => zoneOf(key, [origin, ...reverse]) !== undefined);
  if (!found) {
    const others = block.plugins.filter((plugin) => plugin !== 'kubernetes');
    if (block.upstreams.length === 0)
      return {
        ...nobody,
        result: others.length > 0 ? `as ${others.join(', ')} say` : 'REFUSED',
        block: at,
        plugin: others.join(', ') || 'none',
        why: 'the name is in no zone of the cluster, and nobody is there to forward it to',
      };
    return {
      ...nobody,
      result: 'asked upstream',
      block: at,
      plugin: 'forward',
      why: `the name is in no zone of the cluster; ${block.upstreams.join(', ')} would be asked${beforeForward(others)}`,
    };
  }
  const zone = zoneFor(found);
  const answer = resolveName(zone, nameText(name), type);
  const reason = reasonOf(zone, key, type.toUpperCase(), snapshot, answer);
  return {
    result: resultOf(answer),
    answers: answer?.answers ?? [],
    block: at,
    plugin: 'kubernetes',
    object: reason.object,
    why: reason.why,
    mend: reason.mend,
  };
}

function beforeForward(plugins: readonly string[]): string {
  const earlier = plugins.filter((plugin) => plugin !== 'forward');
  return earlier.length === 0 ? '' : ` unless one of ${earlier.join(', ')} answers`;
}

function resultOf(answer: TextAnswer | undefined): string {
  if (!answer) return 'NXDOMAIN';
  return answer.rcode === 'NOERROR' && answer.answers.length === 0 ? 'NODATA' : answer.rcode;
}

interface Reason {
  readonly object: string | undefined;
  readonly why: string;
  readonly mend: string | undefined;
}

function because(why: string, object?: string, mend?: string): Reason {
  return { object, why, mend };
}

function reasonOf(zone: Zone, key: DnsName, type: string, snapshot: Snapshot, answer: TextAnswer | undefined): Reason {
  const { origin } = zone.options;
  const at = originAt(key, origin);
  if (at < 0) return reverseReason(zone, key, type);
  const labels = labelsOf(`${key.slice(0, at)}\0`).reverse();
  const [kind, namespace, ...rest] = labels;
  const text = nameText(origin);
  if (kind === undefined) return because(`the zone ${text} itself: it has SOA and NS records`);
  if (kind === 'dns-version' && labels.length === 1) return because('the version of the DNS specification, as TXT');
  if (kind === 'dns' && namespace === 'ns') return because("the zone's own name server");
  if (kind !== 'svc' && kind !== 'pod') return strangerReason(kind, labels, text, snapshot);
  if (namespace === undefined) return because(`${kind}.${text} only has names below it`);
  const namespaceReason = missingNamespace(zone, namespace, kind, snapshot);
  if (namespaceReason) return namespaceReason;
  if (rest.length === 0) return because('a namespace only has names below it', `Namespace ${namespace}`);
  return kind === 'pod'
    ? podReason(zone, namespace, rest[0] ?? '', answer)
    : serviceReason(zone, `${namespace}/${rest[0] ?? ''}`, rest.slice(1), type, snapshot, answer);
}

function strangerReason(label: string, labels: readonly string[], zone: string, snapshot: Snapshot): Reason {
  const why = `below ${zone} there are only svc and pod, not "${label}"`;
  const key = `${labels[0] ?? ''}/${labels[1] ?? ''}`;
  if (labels.length >= 2 && snapshot.services.has(key))
    return because(why, undefined, `ask for ${labels[1]}.${labels[0]}.svc.${zone}: that is Service ${key}`);
  return because(why, undefined, `names are <service>.<namespace>.svc.${zone}`);
}

function missingNamespace(zone: Zone, namespace: string, kind: string, snapshot: Snapshot): Reason | undefined {
  const { namespaces, pods } = zone.options;
  if (kind === 'pod' && pods === 'disabled') return because('Pods have no names: the zone says `pods disabled`');
  if (namespaces && !namespaces.has(namespace))
    return because(`the option "namespaces" leaves the namespace ${namespace} out`, `Namespace ${namespace}`);
  if (zone.servicesIn.has(namespace) || snapshot.namespaces.has(namespace)) return undefined;
  const near = nearestName(namespace, snapshot.namespaces.keys());
  const hidden = zone.options.listedNamespaces ? ', or its labels are not those that are answered for' : '';
  return because(
    `there is no namespace ${namespace}${hidden}`,
    undefined,
    near === undefined ? undefined : `did you mean ${near}?`,
  );
}

function podReason(zone: Zone, namespace: string, label: string, answer: TextAnswer | undefined): Reason {
  const ip = podAddress(label, zone.options.pods);
  if (!ip)
    return because(
      `"${label}" spells no address`,
      undefined,
      'the name of a Pod is its address with dashes, such as 10-0-0-1',
    );
  if (zone.options.pods === 'verified' && !zone.pods.get(ip)?.includes(namespace))
    return because(`no running Pod of ${namespace} has the address ${ip} (\`pods verified\`)`);
  const none = answer?.answers.length === 0 ? '; there is no record of this type' : '';
  return because(`the address is in the name itself (\`pods ${zone.options.pods}\`)${none}`);
}

function serviceReason(
  zone: Zone,
  key: string,
  below: readonly string[],
  type: string,
  snapshot: Snapshot,
  answer: TextAnswer | undefined,
): Reason {
  const service = snapshot.services.get(key);
  if (!service) return unknownService(key, snapshot);
  const object = `Service ${key}`;
  const { record } = service;
  if (record.type === 'ExternalName') {
    if (below.length > 0) return because('an ExternalName has no names below it', object);
    return because(`an ExternalName for ${record.externalName ?? ''}: its CNAME`, object);
  }
  const answers = answersOf(zone, key);
  if (answers?.kind !== 'addresses') return absentReason(zone, service, object);
  const kindText = record.headless
    ? 'a headless Service: its ready endpoints'
    : 'its ClusterIP, ready endpoints or not';
  if (below.length === 1 && !below[0]?.startsWith('_'))
    return endpointReason(service, below[0] ?? '', [...answers.endpoints.keys()], object);
  if (below.length > 0 && answer?.rcode === 'NXDOMAIN') {
    const ports = [...answers.ports.keys()].map((port) => `_${port.split('/').join('._')}`);
    return because(
      'there is no such port',
      object,
      ports.length > 0 ? `there are: ${ports.join(', ')}` : 'no port has a name',
    );
  }
  if (answer?.answers.length === 0) {
    const there = [
      ...(answers.apex.a ? ['A'] : []),
      ...(answers.apex.aaaa ? ['AAAA'] : []),
      ...(answers.apex.srv.length > 0 ? ['SRV'] : []),
    ];
    return because(`the name exists, and has no record of type ${type}: it has ${there.join(', ') || 'none'}`, object);
  }
  return because(kindText, object);
}

function unknownService(key: string, snapshot: Snapshot): Reason {
  const [namespace = '', name = ''] = key.split('/');
  const keys = [...snapshot.services.keys()].sort();
  const elsewhere = keys.filter((one) => one.endsWith(`/${name}`)).slice(0, 4);
  const near = nearestName(key, keys);
  const meant = [...new Set([...elsewhere, ...(near === undefined ? [] : [near])])];
  return because(
    `namespace ${namespace} has no Service ${name}`,
    undefined,
    meant.length > 0 ? `did you mean ${meant.join(', ')}?` : undefined,
  );
}

/** It is there, and has no name. */
function absentReason(zone: Zone, { record, members }: ResolvedService, object: string): Reason {
  const notReady = members
    .filter(({ endpoint }) => !endpoint.ready)
    .map(({ endpoint }) => endpoint.podName ?? endpoint.ip);
  const none = notReady.length > 0 ? `not ready: ${notReady.join(', ')}` : 'it has no endpoint at all';
  if (record.headless && zone.options.noEndpoints) return because('endpoints are not read (`noendpoints`)', object);
  if (record.headless)
    return because(
      `a headless Service has the names of its ready endpoints, and none is ready: ${none}`,
      object,
      'see to the readiness of its Pods, or set publishNotReadyAddresses',
    );
  if (zone.options.ignoreEmptyService)
    return because(`a Service without a ready endpoint has no name (\`ignore empty_service\`): ${none}`, object);
  return because('it has no ClusterIP yet', object);
}

function endpointReason(service: ResolvedService, label: string, known: readonly string[], object: string): Reason {
  if (known.includes(label)) return because(`the endpoint "${label}"`, object);
  const dead = service.members.find(
    ({ endpoint }) => endpointLabel(endpoint, true) === label || dashedIp(endpoint.ip) === label,
  );
  if (dead && !dead.endpoint.ready) return because(`the endpoint "${label}" is not ready`, object);
  const shown = known.slice(0, 5).join(', ');
  return because(`it has no ready endpoint "${label}"`, object, known.length > 0 ? `there are: ${shown}` : undefined);
}

function reverseReason(zone: Zone, key: DnsName, type: string): Reason {
  const served = zone.reverseZones.find(({ origin }) => originAt(key, origin) >= 0);
  const at = served ? originAt(key, served.origin) : -1;
  const ip = served && reverseAddress(served.origin, labelsOf(`${key.slice(0, at)}\0`).reverse());
  if (!ip) return because('the name of no address: only whole addresses have records');
  const owners = ownersOf(zone, ip);
  if (owners.length === 0) return because(`${ip} is the address of no Service and of no ready endpoint`);
  const [first] = owners;
  const object = `Service ${(owners.find(({ cluster }) => cluster) ?? first)?.service ?? ''}`;
  return type === 'PTR' ? because(`the owner of ${ip}`, object) : because(`${ip} has PTR records alone`, object);
}

/** Names with fewer than `ndots` dots are tried with each search domain first; a final dot ends that. */
function searchSteps(
  { name: text, namespace, ndots }: NameQuestion,
  name: DnsName,
  blockOf: (name: DnsName) => ExplainedBlock | undefined,
  asked: (name: DnsName) => Said,
): readonly SearchStep[] {
  if (text.endsWith('.')) return [];
  const origin = clusterOrigin(name, blockOf);
  if (origin === undefined) return [];
  const domains = [`${namespace}.svc.${origin}`, `svc.${origin}`, origin];
  const bare = labelsOf(name).length - 1 >= ndots ? [name] : [];
  const searched = domains.flatMap((domain) => parseName(`${text}.${domain}`) ?? []);
  const steps: SearchStep[] = [];
  for (const one of [...bare, ...searched, ...(bare.length > 0 ? [] : [name])]) {
    const { result, plugin } = asked(one);
    steps.push({ name: nameText(one), result: `${result} (${plugin})` });
    // NODATA ends the search, too: the name exists (resolv.conf(5), glibc).
    if (result !== 'NXDOMAIN' && result !== 'REFUSED') break;
  }
  return steps;
}

/** The cluster's domain, of the block that is asked for names outside. */
function clusterOrigin(name: DnsName, blockOf: (name: DnsName) => ExplainedBlock | undefined): string | undefined {
  const local = parseName('cluster.local');
  const blocks = [blockOf(lowerName(name)), local && blockOf(local)];
  const options = blocks.flatMap((block) => block?.kubernetes[0] ?? [])[0];
  return options && nameText(options.origin);
}

export function nameExplanationText(explanation: NameExplanation): string {
  const { name, type, result, answers, block, plugin, object, why, mend, search } = explanation;
  const lines = [
    `${name} ${type}: ${result}`,
    ...answers.map((answer) => `  ${answer}`),
    `  block     ${block}`,
    `  plugin    ${plugin}`,
    ...(object === undefined ? [] : [`  object    ${object}`]),
    `  why       ${why}`,
    ...(mend === undefined ? [] : [`  mend      ${mend}`]),
  ];
  if (search.length > 0)
    lines.push(
      '',
      `A Pod's resolver asks, up to the first that is there (${search.length} name${search.length === 1 ? '' : 's'}, each for A and AAAA):`,
      ...search.map((step) => `  ${step.name}  ${step.result}`),
    );
  return `${lines.join('\n')}\n`;
}
