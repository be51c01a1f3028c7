// How each plane is started from flags. A plane's code is loaded when it starts: a role pays for what it runs.

import type { RulesModeSetting } from '../rules/mode.ts';
import type { Arguments } from './args.ts';
import type { RunningContext } from './context.ts';
import { UsageError } from './errors.ts';
import type { PlaneStarter } from './plane-keeper.ts';
import type { ReferenceOptions } from '../ingress/references.ts';
import {
  annotationsPrefix,
  clusterDomain,
  objectFlag,
  rulesConfig,
  upstreams,
  type ListenAddress,
} from './settings.ts';

export interface RulesChoice {
  readonly mode: RulesModeSetting;
  /** `up` takes its rules with it when it stops; `proxy` leaves them in place, so that traffic goes on. */
  readonly removeOnStop: boolean;
}

export function rulesPlane(args: Arguments, context: RunningContext, choice: RulesChoice): PlaneStarter {
  const config = rulesConfig(args);
  return {
    name: 'rules',
    start: async () => {
      const { startRulesPlane } = await import('../rules/plane.ts');
      return startRulesPlane({ ...context, ...choice, config, log: context.log.named('rules') });
    },
  };
}

export function dnsPlane(args: Arguments, context: RunningContext, listen: readonly ListenAddress[]): PlaneStarter {
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
        zone,
        upstream: servers ? { kind: 'servers', servers } : { kind: 'resolv-conf', path: '/etc/resolv.conf' },
        log: context.log.named('dns'),
      });
    },
  };
}

/** What `namedObjects` of the Ingress plane needs to know. */
export function ingressObjects(args: Arguments): ReferenceOptions {
  return {
    annotationsPrefix: annotationsPrefix(args),
    configMap: objectFlag(args, 'configmap'),
    defaultCertificate: objectFlag(args, 'default-ssl-certificate'),
  };
}

export interface IngressChoice {
  readonly http: ListenAddress;
  readonly https: ListenAddress;
  readonly sslRedirect: boolean;
  readonly watchIngressWithoutClass: boolean;
}

export function ingressPlane(args: Arguments, context: RunningContext, choice: IngressChoice): PlaneStarter {
  const { annotationsPrefix: prefix, configMap, defaultCertificate } = ingressObjects(args);
  const [namespace, service] = objectFlag(args, 'default-backend-service')?.split('/') ?? [];
  if (args.isSet('disable-svc-external-name') === false) {
    throw new UsageError('flag --disable-svc-external-name=false: ExternalName Services are not forwarded to yet');
  }
  return {
    name: 'ingress',
    start: async () => {
      const { startIngressPlane } = await import('../ingress/plane.ts');
      return startIngressPlane({
        ...context,
        ...choice,
        sslRedirect: args.isSet('ssl-redirect') ?? choice.sslRedirect,
        watchIngressWithoutClass: args.isSet('watch-ingress-without-class') ?? choice.watchIngressWithoutClass,
        ingressClass: args.text('ingress-class') ?? 'nginx',
        controllerClass: args.text('controller-class') ?? 'k8s.io/ingress-nginx',
        ingressClassByName: args.isSet('ingress-class-by-name') ?? false,
        watchNamespace: args.text('watch-namespace') || undefined,
        annotationsPrefix: prefix,
        configMap,
        defaultCertificate,
        defaultBackend: namespace && service ? { namespace, service } : undefined,
        log: context.log.named('ingress'),
      });
    },
  };
}
