import type { PersistentMap } from '../lib/persistent-map.ts';
import type { IngressClassRecord, IngressRecord } from '../model/records.ts';

/** Which Ingresses are ours; names and defaults are those of ingress-nginx' flags. */
export interface ClassSelection {
  /** `--controller-class`: an IngressClass whose `spec.controller` is this one is ours. */
  readonly controllerClass: string;
  /** `--ingress-class`: the value of the annotation `kubernetes.io/ingress.class` that is ours. */
  readonly ingressClass: string;
  /** `--ingress-class-by-name`: `ingressClassName` equal to `ingressClass` is ours, whatever IngressClass objects say. */
  readonly ingressClassByName: boolean;
  /** `--watch-ingress-without-class`. */
  readonly watchIngressWithoutClass: boolean;
  /** `--watch-namespace`: only Ingresses of this namespace are ours. */
  readonly watchNamespace?: string | undefined;
  /** Those that `--watch-namespace-selector` selects; undefined without it. */
  readonly namespaces?: ReadonlySet<string> | undefined;
  /** `--disable-catch-all`: a default backend without rules is not ours. */
  readonly disableCatchAll?: boolean;
}

/** The controller name of our own, always accepted beside the one of the option. */
export const OWN_CONTROLLER = 'fairlead.io/ingress';

export const DEFAULT_SELECTION: ClassSelection = {
  controllerClass: 'k8s.io/ingress-nginx',
  ingressClass: 'nginx',
  ingressClassByName: false,
  watchIngressWithoutClass: false,
};

/** ingress-nginx' order: the field, then the annotation, then what to do with neither. */
export function isOurs(
  ingress: IngressRecord,
  classes: PersistentMap<IngressClassRecord>,
  selection: ClassSelection,
): boolean {
  if (selection.watchNamespace !== undefined && ingress.namespace !== selection.watchNamespace) return false;
  if (selection.namespaces?.has(ingress.namespace) === false) return false;
  if (selection.disableCatchAll === true && isCatchAll(ingress)) return false;
  if (ingress.className !== undefined) {
    if (selection.ingressClassByName && ingress.className === selection.ingressClass) return true;
    const controller = classes.get(ingress.className)?.controller;
    return controller === selection.controllerClass || controller === OWN_CONTROLLER;
  }
  if (ingress.classAnnotation !== undefined) return ingress.classAnnotation === selection.ingressClass;
  return selection.watchIngressWithoutClass;
}

/** Takes every host: a default backend and no rules. */
export function isCatchAll({ rules, defaultBackend }: Pick<IngressRecord, 'rules' | 'defaultBackend'>): boolean {
  return rules.length === 0 && defaultBackend !== undefined;
}
