// How each plane is started from flags. A plane's code is loaded when it starts: a role pays for what it runs.

import type { Corefile, LoadedCorefile } from '../dns/corefile/load.ts';
import type { Prepared } from '../dns/plane.ts';
import type { RulesMode } from '../rules/backend.ts';
import { onSignal } from '../system/signals.ts';
import { configFor, type RulesConfig } from '../rules/config.ts';
import type { RulesModeSetting } from '../rules/mode.ts';
import type { Arguments } from './args.ts';
import type { RunningContext } from './context.ts';
import { UsageError } from './errors.ts';
import type { PlaneStarter } from './plane-keeper.ts';
import type { ListenAddress } from './listen-address.ts';
import type { Tell } from '../ingress/notice.ts';
import type { IngressPlane } from '../ingress/plane.ts';
import type { TrafficOptions } from '../ingress/traffic-counts.ts';
import { References } from '../ingress/references.ts';
import { routingFlags } from './ingress-settings.ts';
import { VERSION } from './version.ts';
import { annotationsPrefix, clusterDomain, objectFlag, rulesConfig, upstreams } from './settings.ts';

export interface RulesChoice {
  readonly mode: RulesModeSetting;
  /** `up` takes its rules with it when it stops; `proxy` leaves them in place, so that traffic goes on. */
  readonly removeOnStop: boolean;
}

export interface RulesStarter extends PlaneStarter {
  readonly config: () => RulesConfig;
  /** The mode that was chosen; undefined before the start. */
  readonly mode: () => RulesMode | undefined;
}

export function rulesPlane(args: Arguments, context: RunningContext, choice: RulesChoice): RulesStarter {
  const settings = rulesConfig(args);
  let mode: RulesMode | undefined;
  return {
    name: 'rules',
    config: () => configFor(mode ?? 'nftables', settings),
    mode: () => mode,
    start: async () => {
      const { startRulesPlane } = await import('../rules/plane.ts');
      const plane = await startRulesPlane({ ...context, ...choice, config: settings, log: context.log.named('rules') });
      ({ mode } = plane);
      return plane;
    },
  };
}

export function dnsPlane(
  args: Arguments,
  context: RunningContext,
  listen: readonly ListenAddress[],
  workers: number,
): PlaneStarter {
  const domain = clusterDomain(args);
  const servers = upstreams(args);
  return {
    name: 'dns',
    start: async () => {
      const { startDnsPlane } = await import('../dns/plane.ts');
      const { parseName } = await import('../dns/wire/name.ts');
      const zone = parseName(domain);
      if (!zone) throw new UsageError(`flag --cluster-domain: "${domain}" is too long for a DNS name`);
      return startDnsPlane({
        ...context,
        listen,
        workers,
        zone,
        upstream: servers ? { kind: 'servers', servers } : { kind: 'resolv-conf', path: '/etc/resolv.conf' },
        log: context.log.named('dns'),
      });
    },
  };
}

export function corefilePlane(
  context: RunningContext,
  workers: number,
  corefile: Corefile,
  load: () => Promise<LoadedCorefile>,
  prepare: (next: Corefile) => Promise<Prepared>,
  rereadMs: number | undefined,
): PlaneStarter {
  return {
    name: 'dns',
    start: async () => {
      const { startCorefilePlane } = await import('../dns/plane.ts');
      return startCorefilePlane({
        ...context,
        workers,
        corefile,
        load,
        prepare,
        // As CoreDNS.
        onReloadAsked: (reload) => onSignal('SIGUSR1', reload),
        ...(rereadMs === undefined ? {} : { rereadMs }),
        log: context.log.named('dns'),
      });
    },
  };
}

export interface IngressChoice {
  readonly http: ListenAddress;
  readonly https: ListenAddress;
  readonly sslRedirect: boolean;
  /**
   * In a folder of manifests, which has no admission to fill in a class and often no IngressClass: take Ingresses without a class, and those that name
   * ours whether or not the class exists.
   */
  readonly lenientClass: boolean;
  readonly tell?: Tell;
  readonly tellOfSync?: boolean;
  /** How long a stop waits for what is under way. */
  readonly graceMs?: number;
  readonly toldHttpsPort?: number;
  readonly workers?: number;
  readonly traffic?: Partial<TrafficOptions>;
  /** Takes the access log. */
  readonly accessLog?: (text: string) => void;
  readonly onApplied?: () => void;
  /** TCP ports that no Service can be given. */
  readonly reserved?: ReadonlySet<number>;
}

export interface IngressStarter extends PlaneStarter {
  /** Undefined before the start. */
  readonly plane: () => IngressPlane | undefined;
}

export function ingressPlane(args: Arguments, context: RunningContext, choice: IngressChoice): IngressStarter {
  const configMap = objectFlag(args, 'configmap');
  const defaultCertificate = objectFlag(args, 'default-ssl-certificate');
  const tcp = objectFlag(args, 'tcp-services-configmap');
  const udp = objectFlag(args, 'udp-services-configmap');
  const references = new References({
    annotationsPrefix: annotationsPrefix(args),
    configMap,
    defaultCertificate,
    streams: [tcp, udp],
  });
  const flags = routingFlags(args, choice);
  let plane: IngressPlane | undefined;
  return {
    name: 'ingress',
    namedObjects: (snapshot) => references.of(snapshot),
    plane: () => plane,
    start: async () => {
      const { startIngressPlane } = await import('../ingress/plane.ts');
      plane = await startIngressPlane({
        ...context,
        ...flags,
        ...(choice.tell ? { tell: choice.tell } : {}),
        ...(choice.onApplied ? { onApplied: choice.onApplied } : {}),
        ...(choice.accessLog ? { accessLog: choice.accessLog } : {}),
        ...(choice.traffic ? { traffic: choice.traffic } : {}),
        version: VERSION,
        tellOfSync: choice.tellOfSync ?? true,
        workers: choice.workers ?? 0,
        ...(choice.toldHttpsPort === undefined ? {} : { toldHttpsPort: choice.toldHttpsPort }),
        ...(choice.graceMs === undefined ? {} : { graceMs: choice.graceMs }),
        http: choice.http,
        https: choice.https,
        configMap,
        defaultCertificate,
        ...(tcp === undefined && udp === undefined
          ? {}
          : {
              streams: {
                tcp,
                udp,
                addresses: [choice.http.address],
                reserved: choice.reserved ?? new Set(),
              },
            }),
        log: context.log.named('ingress'),
      });
      return plane;
    },
  };
}
