import { parseIpSloppy } from '../../lib/ip.ts';
import type {
  IngressBackend,
  IngressPath,
  IngressPortRef,
  IngressRecord,
  IngressRule,
  PathType,
} from '../../model/records.ts';
import { isSubdomain, readAnnotation, readAnnotations, readMetadata, SUBDOMAIN_RULE } from './metadata.ts';
import { parseWith, type Field, type Parsed, type ParseMode } from './reader.ts';

const PATH_TYPES: readonly PathType[] = ['Exact', 'Prefix', 'ImplementationSpecific'];

const WILDCARD_RULE = `a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com')`;

/** `v1` is networking.k8s.io/v1; `v1beta1` the form that extensions/v1beta1 and networking.k8s.io/v1beta1 had. */
export type IngressForm = 'v1' | 'v1beta1';

/** An Ingress. The form is told by the object's apiVersion, or by `form` where items of a list carry none. */
export function parseIngress(value: unknown, mode: ParseMode, form?: IngressForm): Parsed<IngressRecord> {
  return parseWith(value, mode, (root) => {
    const metadata = readMetadata(root, 'namespaced');
    if (!metadata) return undefined;
    const version = root.get('apiVersion').text();
    const beta = form === undefined ? version?.endsWith('/v1beta1') === true : form === 'v1beta1';
    if (beta) {
      root.notice(
        `Ingress of ${version ?? 'v1beta1'} is no longer served by Kubernetes; read as networking.k8s.io/v1: write it so`,
      );
    }
    const read = new IngressReader(beta);
    const spec = root.get('spec');
    spec.noticeUnknown(['ingressClassName', beta ? 'backend' : 'defaultBackend', 'rules', 'tls']);
    const defaultBackend = spec.get(beta ? 'backend' : 'defaultBackend');
    const rules = spec.get('rules').items();
    if (!defaultBackend.present && rules.length === 0) {
      spec.problem('Invalid value: either `defaultBackend` or `rules` must be specified');
    }
    const created = Date.parse(root.get('metadata').get('creationTimestamp').text() ?? '');
    return {
      record: {
        ...metadata,
        uid: root.get('metadata').get('uid').text() ?? '',
        createdAt: Number.isNaN(created) ? 0 : created,
        className: spec.get('ingressClassName').text(),
        classAnnotation: readAnnotation(root, 'kubernetes.io/ingress.class'),
        annotations: readAnnotations(root),
        defaultBackend: defaultBackend.present ? read.backend(defaultBackend) : undefined,
        rules: rules.flatMap((rule) => read.rule(rule) ?? []),
        tls: spec
          .get('tls')
          .items()
          .map((entry) => ({
            hosts: entry
              .get('hosts')
              .items()
              .flatMap((host) => readHost(host) ?? []),
            secretName: entry.get('secretName').text() || undefined,
          })),
        published: root
          .get('status')
          .get('loadBalancer')
          .get('ingress')
          .items()
          .map((entry) => ({
            ip: entry.get('ip').text() || undefined,
            hostname: entry.get('hostname').text() || undefined,
          })),
      },
    };
  });
}

class IngressReader {
  readonly #beta: boolean;

  constructor(beta: boolean) {
    this.#beta = beta;
  }

  /** Undefined for a host that cannot be read: without it the rule would match every host. */
  rule(field: Field): IngressRule | undefined {
    field.noticeUnknown(['host', 'http']);
    const hostField = field.get('host');
    const named = hostField.present && hostField.value !== '';
    const host = named ? readHost(hostField) : undefined;
    if (named && host === undefined) return undefined;
    const http = field.get('http');
    const paths = http.get('paths');
    if (http.present && paths.items().length === 0) paths.problem('Required value: a rule with `http` needs a path');
    return { host, paths: paths.items().flatMap((path) => this.path(path) ?? []) };
  }

  path(field: Field): IngressPath | undefined {
    field.noticeUnknown(['path', 'pathType', 'backend']);
    const typeField = field.get('pathType');
    if (!typeField.present && !this.#beta) {
      typeField.problem('Required value: pathType must be specified: "Exact", "ImplementationSpecific" or "Prefix"');
    }
    const pathType = typeField.present ? typeField.oneOf(PATH_TYPES) : 'ImplementationSpecific';
    const path = field.get('path').text() ?? '';
    if (pathType) checkPath(field.get('path'), path, pathType);
    const backendField = field.get('backend');
    if (!backendField.present) backendField.problem('Required value: a path needs the Service that it leads to');
    const backend = backendField.present ? this.backend(backendField) : undefined;
    if (!pathType || !backend || (path !== '' && !path.startsWith('/'))) return undefined;
    return { path: path === '' ? '/' : path, pathType, backend };
  }

  backend(field: Field): IngressBackend | undefined {
    const resource = field.get('resource');
    if (resource.present) return readResource(resource, field);
    if (this.#beta) {
      const service = field.get('serviceName').requiredText();
      const port = readPortRef(field.get('servicePort'));
      return service !== undefined && port ? { kind: 'service', service, port } : undefined;
    }
    const serviceField = field.get('service');
    if (!serviceField.present) {
      serviceField.problem('Required value: a backend needs `service` with `name` and `port`, or `resource`');
      return undefined;
    }
    const service = serviceField.get('name').requiredText();
    const portField = serviceField.get('port');
    const number = portField.get('number');
    const name = portField.get('name');
    if (number.present && name.present && number.value !== 0 && name.value !== '') {
      portField.problem('Invalid value: cannot set both port name & port number');
    }
    const chosen = name.present && name.value !== '' ? name : number;
    if (!chosen.present) portField.problem('Required value: port name or number is required');
    const port = chosen.present ? readPortRef(chosen) : undefined;
    return service !== undefined && port ? { kind: 'service', service, port } : undefined;
  }
}

function readResource(resource: Field, backend: Field): IngressBackend | undefined {
  if (backend.get('service').present) {
    backend.problem('Invalid value: cannot set both resource and service backends');
    return undefined;
  }
  const resourceKind = resource.get('kind').requiredText();
  const name = resource.get('name').requiredText();
  if (resourceKind === undefined || name === undefined) return undefined;
  return { kind: 'resource', apiGroup: resource.get('apiGroup').text() ?? '', resourceKind, name };
}

/** v1beta1 gives a number or a name in one field; digits in a string are a number there. */
function readPortRef(field: Field): IngressPortRef | undefined {
  if (!field.present) {
    field.problem('Required value: port name or number is required');
    return undefined;
  }
  if (typeof field.value === 'string') {
    return field.value === ''
      ? (field.problem('Required value: port name or number is required'), undefined)
      : { kind: 'name', name: field.value };
  }
  const number = field.port();
  return number === undefined ? undefined : { kind: 'number', number };
}

/** Sequences that an exact or prefix match can never meet once a path is normalised; the API server refuses them. */
const INVALID_SEQUENCES = ['//', '/./', '/../', '%2f', '%2F'];

function checkPath(field: Field, path: string, pathType: PathType): void {
  if (path === '' && pathType === 'ImplementationSpecific') return;
  if (!path.startsWith('/')) {
    field.problem(`Invalid value: ${JSON.stringify(path)}: must be an absolute path`);
    return;
  }
  if (pathType === 'ImplementationSpecific' || !field.strict) return;
  const found = INVALID_SEQUENCES.find((sequence) => path.includes(sequence));
  if (found) field.invalid(`must not contain ${JSON.stringify(found)}`);
  const suffix = ['/..', '/.'].find((ending) => path.endsWith(ending));
  if (suffix) field.invalid(`cannot end with ${JSON.stringify(suffix)}`);
}

function readHost(field: Field): string | undefined {
  const host = field.text();
  if (host === undefined || host === '') return undefined;
  if (field.strict) {
    if (parseIpSloppy(host)) field.invalid('must be a DNS name, not an IP address');
    else if (host.includes('*')) {
      if (!host.startsWith('*.') || !isSubdomain(host.slice(2))) field.invalid(WILDCARD_RULE);
    } else if (!isSubdomain(host)) field.invalid(SUBDOMAIN_RULE);
  }
  return host.toLowerCase();
}
