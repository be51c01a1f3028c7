// What the flags and the controller's ConfigMap make of routing, in one place for the plane and for those who explain it.

import type { ConfigMapRecord } from '../model/records.ts';
import { DEFAULT_PREFIX } from './annotations/settings.ts';
import { DEFAULT_SELECTION, type ClassSelection } from './class-selection.ts';
import { DEFAULT_GLOBALS, readGlobals, type GlobalSettings } from './global-settings.ts';
import type { RoutingOptions } from './host-routes.ts';

export interface RoutingFlags extends Partial<ClassSelection> {
  /** Plain HTTP of a host with TLS is answered by 308 to HTTPS. Default true, as ingress-nginx; annotations and the ConfigMap win. */
  readonly sslRedirect?: boolean;
  /** `--annotations-prefix`. */
  readonly annotationsPrefix?: string;
  /** `--enable-ssl-passthrough`. */
  readonly sslPassthrough?: boolean;
  readonly defaultBackend?: RoutingOptions['defaultBackend'];
  readonly conformance?: boolean;
  /** Backends are told that HTTPS came to this port: that of the Service in front. */
  readonly toldHttpsPort?: number;
  /** `--watch-namespace-selector` is given: the namespaces that are read are the only ones whose Ingresses count. */
  readonly ofReadNamespaces?: boolean;
  /** ExternalName Services are never forwarded to. */
  readonly disableExternalNames?: boolean;
}

/** What holds where neither an annotation nor the ConfigMap says otherwise. */
export function defaultGlobals(
  { sslRedirect = true, sslPassthrough = false, conformance = true }: RoutingFlags,
  transfer: Partial<GlobalSettings['transfer']> = {},
): GlobalSettings {
  return {
    ...DEFAULT_GLOBALS,
    transfer: { ...DEFAULT_GLOBALS.transfer, ...transfer },
    sslRedirect,
    sslPassthrough,
    // The conformance suite of the API looks for Server; ingress-nginx takes it away.
    messages: { ...DEFAULT_GLOBALS.messages, backendServer: conformance },
  };
}

export function routingOptions(
  flags: RoutingFlags,
  defaults: GlobalSettings,
  configMap: ConfigMapRecord | undefined,
  namespaces?: ReadonlySet<string>,
): RoutingOptions & { readonly globals: GlobalSettings } {
  return {
    globals: readGlobals(configMap, defaults),
    annotationsPrefix: flags.annotationsPrefix ?? DEFAULT_PREFIX,
    defaultBackend: flags.defaultBackend,
    watchNamespace: flags.watchNamespace,
    disableCatchAll: flags.disableCatchAll ?? false,
    conformance: flags.conformance ?? true,
    disableExternalNames: flags.disableExternalNames ?? false,
    namespaces,
    controllerClass: flags.controllerClass ?? DEFAULT_SELECTION.controllerClass,
    ingressClass: flags.ingressClass ?? DEFAULT_SELECTION.ingressClass,
    ingressClassByName: flags.ingressClassByName ?? DEFAULT_SELECTION.ingressClassByName,
    watchIngressWithoutClass: flags.watchIngressWithoutClass ?? DEFAULT_SELECTION.watchIngressWithoutClass,
  };
}
