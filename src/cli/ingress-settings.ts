// Flags of `ingress` → settings.

import { parseGoDuration } from '../lib/go-duration.ts';
import type { Logger } from '../observe/log.ts';
import type { AddressSource, PodIdentity } from '../source/api/published-addresses.ts';
import type { Arguments } from './args.ts';
import { UsageError } from './errors.ts';
import { idleNames } from './flag.ts';
import { INGRESS_FLAGS } from './ingress-flags.ts';
import type { WebhookSettings } from './admission.ts';
import { parseIp } from '../lib/ip.ts';
import { parseLabelSelector, type LabelSelector } from '../lib/label-selector.ts';
import type { StatusSettings } from './ingress-status.ts';
import type { TrafficOptions } from '../ingress/traffic-counts.ts';
import type { RoutingFlags } from '../ingress/routing-options.ts';
import type { ListenAddress } from './listen-address.ts';
import { annotationsPrefix, objectFlag, port } from './settings.ts';

export interface Environment {
  readonly POD_NAME?: string | undefined;
  readonly POD_NAMESPACE?: string | undefined;
}

/** Which Ingresses are ours and how they are read. `lenientClass`: as in a folder of manifests, which has no admission to fill in a class. */
export function routingFlags(
  args: Arguments,
  choice: { readonly sslRedirect: boolean; readonly lenientClass: boolean },
): RoutingFlags {
  const [namespace, service] = objectFlag(args, 'default-backend-service')?.split('/') ?? [];
  return {
    sslRedirect: args.isSet('ssl-redirect') ?? (args.isSet('conformance') === true ? false : choice.sslRedirect),
    sslPassthrough: args.isSet('enable-ssl-passthrough') ?? false,
    watchIngressWithoutClass: args.isSet('watch-ingress-without-class') ?? choice.lenientClass,
    ingressClass: args.text('ingress-class') ?? 'nginx',
    controllerClass: args.text('controller-class') ?? 'k8s.io/ingress-nginx',
    ingressClassByName: args.isSet('ingress-class-by-name') ?? choice.lenientClass,
    watchNamespace: args.text('watch-namespace') || undefined,
    disableCatchAll: args.isSet('disable-catch-all') ?? false,
    disableExternalNames: args.isSet('disable-svc-external-name') ?? false,
    ofReadNamespaces: namespaceSelector(args) !== undefined,
    conformance: args.isSet('conformance') ?? choice.lenientClass,
    annotationsPrefix: annotationsPrefix(args),
    defaultBackend: namespace && service ? { namespace, service } : undefined,
  };
}

/** `--watch-namespace-selector`. */
export function namespaceSelector(args: Arguments): LabelSelector | undefined {
  const text = args.text('watch-namespace-selector') ?? '';
  if (text === '') return undefined;
  if (args.text('watch-namespace')) {
    throw new UsageError('flags --watch-namespace and --watch-namespace-selector exclude each other');
  }
  const selector = parseLabelSelector(text);
  if (selector) return selector;
  throw new UsageError(`flag --watch-namespace-selector is a label selector such as team=blue, not "${text}"`);
}

/** Undefined with `--update-status=false`. */
export function statusSettings(args: Arguments, hostname: string, env: Environment): StatusSettings | undefined {
  const pod = podOf(env);
  const source = addressSource(args, pod);
  const intervalMs = seconds(args, 'status-update-interval', 60) * 1000;
  const clearOnStop = args.isSet('update-status-on-shutdown') ?? true;
  const name = args.text('election-id') ?? 'ingress-controller-leader';
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) {
    throw new UsageError(`flag --election-id is the name of a Lease, not "${name}"`);
  }
  const termMs = duration(args, 'election-ttl', 30_000);
  if (termMs < 2000) throw new UsageError('flag --election-ttl is at least 2s');
  if (args.isSet('update-status') === false) return undefined;
  const election =
    args.isSet('disable-leader-election') === true
      ? undefined
      : { namespace: pod?.namespace ?? env.POD_NAMESPACE ?? 'default', name, termMs };
  return { source, intervalMs, clearOnStop, election, identity: pod?.name ?? hostname, pod };
}

/** Undefined without `--validating-webhook`. */
export function webhookSettings(args: Arguments): WebhookSettings | undefined {
  const rules = {
    deepInspect: args.isSet('deep-inspect') ?? true,
    validateAnnotations: args.isSet('enable-annotation-validation') ?? true,
  };
  const text = args.text('validating-webhook');
  if (text === undefined || text === '') return undefined;
  const match = /^(.*):([0-9]{1,5})$/.exec(text);
  const address = match?.[1] === undefined || match[1] === '' ? undefined : parseIp(match[1].replace(/^\[|\]$/g, ''));
  const port = Number(match?.[2] ?? Number.NaN);
  if (!(port <= 65_535) || (match?.[1] !== '' && address === undefined)) {
    throw new UsageError(`flag --validating-webhook is [IP]:PORT, such as :8443, not "${text}"`);
  }
  const certificate = args.text('validating-webhook-certificate');
  const key = args.text('validating-webhook-key');
  if (certificate === undefined || key === undefined) {
    throw new UsageError(
      'flag --validating-webhook needs --validating-webhook-certificate FILE and --validating-webhook-key FILE',
    );
  }
  return { ...rules, address, port, certificate, key };
}

/** Where metrics and health are, and what is there. */
export function observeSettings(args: Arguments): {
  readonly listen: ListenAddress;
  readonly healthPath: string;
  readonly metrics: boolean;
} {
  const host = args.text('healthz-host') ?? '';
  const address = parseIp(host === '' ? '0.0.0.0' : host);
  if (!address) throw new UsageError(`flag --healthz-host is an IP address, not "${host}"`);
  const healthPath = args.text('health-check-path') ?? '/healthz';
  if (!/^\/[\x21-\x7e]*$/.test(healthPath)) {
    throw new UsageError(`flag --health-check-path is a path that begins with /, not "${healthPath}"`);
  }
  const metrics = args.isSet('enable-metrics') ?? true;
  return { listen: { address, port: port(args, 'healthz-port', 10254) }, healthPath, metrics };
}

export function stopSettings(args: Arguments): { readonly graceMs: number; readonly afterMs: number } {
  return {
    graceMs: seconds(args, 'shutdown-grace-period', 0) * 1000,
    afterMs: seconds(args, 'post-shutdown-grace-period', 0) * 1000,
  };
}

/** What metrics of requests are told apart by. */
export function trafficSettings(args: Arguments, env: Environment): Partial<TrafficOptions> {
  const buckets = (flag: string): readonly number[] | undefined => {
    const words = args.list(flag);
    const numbers = words?.map(Number);
    const ascending = numbers?.every((each, i) => each >= 0 && each > (numbers[i - 1] ?? -1)) ?? true;
    if (!ascending)
      throw new UsageError(`flag --${flag} is a list of growing numbers, not "${words?.join(',') ?? ''}"`);
    return numbers;
  };
  const time = buckets('time-buckets');
  const length = buckets('length-buckets');
  const size = buckets('size-buckets');
  const names = (args.list('exclude-socket-metrics') ?? []).map((name) =>
    name.replace(/^nginx_ingress_controller_/, ''),
  );
  return {
    perHost: args.isSet('metrics-per-host') ?? true,
    perUndefinedHost: args.isSet('metrics-per-undefined-host') ?? false,
    statusClasses: args.isSet('report-status-classes') ?? false,
    excluded: new Set(names),
    labels: {
      controller_class: args.text('controller-class') ?? 'k8s.io/ingress-nginx',
      controller_namespace: env.POD_NAMESPACE ?? '',
      controller_pod: env.POD_NAME ?? '',
    },
    ...(time ? { timeBuckets: time } : {}),
    ...(length ? { lengthBuckets: length } : {}),
    ...(size ? { sizeBuckets: size } : {}),
  };
}

function podOf({ POD_NAME: name, POD_NAMESPACE: namespace }: Environment): PodIdentity | undefined {
  return name && namespace ? { name, namespace } : undefined;
}

function addressSource(args: Arguments, pod: PodIdentity | undefined): AddressSource | undefined {
  const addresses = args.list('publish-status-address');
  const service = objectFlag(args, 'publish-service')?.split('/');
  const internal = args.isSet('report-node-internal-ip-address') ?? false;
  if (addresses && addresses.length > 0) return { kind: 'given', addresses };
  if (service?.[0] && service[1]) return { kind: 'service', namespace: service[0], name: service[1] };
  return pod && { kind: 'nodes', pod, internal };
}

/** One line for the flags that are taken and do nothing. */
export function noticeFlagsWithoutEffect(args: Arguments, log: Logger): void {
  const idle = idleNames(INGRESS_FLAGS);
  const given = args.given.filter((name) => idle.includes(name));
  if (given.length > 0) log.warn('flags have no effect here', { flags: given.map((name) => `--${name}`).join(' ') });
}

function seconds(args: Arguments, flag: string, fallback: number): number {
  const text = args.text(flag) ?? String(fallback);
  const value = /^[0-9]{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw new UsageError(`flag --${flag} is a number of seconds, not "${text}"`);
  return value;
}

/** Milliseconds, of `30s`, `1m30s`. */
function duration(args: Arguments, flag: string, fallback: number): number {
  const text = args.text(flag);
  if (text === undefined) return fallback;
  const value = parseGoDuration(text);
  if (value === undefined) throw new UsageError(`flag --${flag} is a time such as 30s, not "${text}"`);
  return value;
}
