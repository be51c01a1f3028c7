// Whether an Ingress may be written, by the same reading of it as the data path's. A pure function: nothing of the object is run, written or
// asked for anywhere (CVE-2025-1974).

import type { IngressRecord, ObjectKey } from '../model/records.ts';
import { DEFAULT_PREFIX, readSettings } from './annotations/settings.ts';
import { portText } from './backend.ts';
import { isCatchAll, isOurs } from './class-selection.ts';
import { DEFAULT_GLOBALS } from './global-settings.ts';
import { compileRegex } from '../lib/linear-regex.ts';
import type { RouteTable } from './route-table.ts';

export interface AdmissionRules {
  /** `--deep-inspect`. */
  readonly deepInspect: boolean;
  /** `--enable-annotation-validation`: a value that cannot be read refuses the Ingress; otherwise it is a warning. */
  readonly validateAnnotations: boolean;
}

export interface AdmissionVerdict {
  /** Undefined: it may be written. */
  readonly refusal: string | undefined;
  /** Shown by `kubectl apply`. */
  readonly warnings: readonly string[];
  /** `host/path → service`, for the audit log. */
  readonly routes: readonly string[];
}

const FINE: AdmissionVerdict = { refusal: undefined, warnings: [], routes: [] };

/** `table` is the one in force, with the Ingress as it was before, if it was there. */
export function admitIngress(ingress: IngressRecord, table: RouteTable, rules: AdmissionRules): AdmissionVerdict {
  const { selection, snapshot } = table;
  if (!isOurs(ingress, snapshot.ingressClasses, { ...selection, disableCatchAll: false })) return FINE;
  const { globals = DEFAULT_GLOBALS, annotationsPrefix = DEFAULT_PREFIX } = selection;
  const settings = readSettings(ingress, globals, annotationsPrefix);
  const problems = settings.problems.map((problem) => ({
    refuses: problem.effect === 'denied' || (rules.validateAnnotations && problem.unknown !== true),
    text: `annotation ${annotationsPrefix}/${problem.name}: ${problem.reason}`,
  }));
  const refusals = [
    ...(selection.disableCatchAll === true && isCatchAll(ingress)
      ? ['a default backend without rules takes every host, which --disable-catch-all forbids; give it rules']
      : []),
    ...(globals.strictPathType ? wrongPaths(ingress) : []),
    ...(rules.deepInspect ? suspicious(ingress) : []),
    ...problems.filter(({ refuses }) => refuses).map(({ text }) => text),
    ...(settings.rewrite.useRegex || settings.rewrite.target !== undefined ? wrongExpressions(ingress) : []),
    ...(settings.canary ? [] : overlaps(ingress, table)),
  ];
  return {
    refusal: refusals.length > 0 ? refusals.join('; ') : undefined,
    warnings: problems.filter(({ refuses }) => !refuses).map(({ text }) => text),
    routes: routesOf(ingress),
  };
}

/** ingress-nginx' `strict-validate-path-type`: outside ImplementationSpecific a path is letters, digits and `._-/`. */
function wrongPaths({ rules }: IngressRecord): readonly string[] {
  return rules
    .flatMap(({ paths }) => paths)
    .filter(({ path, pathType }) => pathType !== 'ImplementationSpecific' && !/^\/[A-Za-z0-9._\-/]*$/.test(path))
    .map(({ path, pathType }) => `path ${JSON.stringify(path)} cannot be used with pathType ${pathType}`);
}

/** What nobody has a reason to write in a host or a path: directives and files that attacks on ingress-nginx used. */
const SUSPICIOUS =
  /(^|[\s;{])(alias|root)\s+[^\s;]+\s*;|\/etc\/(passwd|shadow|group|nginx|ingress-controller)|\/var\/run\/secrets|_by_lua|[\r\n]/;

function suspicious({ rules, tls }: IngressRecord): readonly string[] {
  const texts = [
    ...rules.flatMap(({ host, paths }) => [host ?? '', ...paths.map(({ path }) => path)]),
    ...tls.flatMap(({ hosts, secretName }) => [...hosts, secretName ?? '']),
  ];
  return texts.filter((text) => SUSPICIOUS.test(text)).map((text) => `${JSON.stringify(text)} is not allowed here`);
}

function wrongExpressions({ rules }: IngressRecord): readonly string[] {
  return rules.flatMap(({ paths }) =>
    paths.flatMap(({ path }) => {
      const compiled = compileRegex(path, { ignoreCase: true, anchored: true });
      return compiled.kind === 'refused'
        ? [`path ${JSON.stringify(path)} is an expression here: ${compiled.reason}`]
        : [];
    }),
  );
}

/** Host, path and type that another Ingress of ours has already: the older one would win, so the new one would do nothing. */
function overlaps(ingress: IngressRecord, table: RouteTable): readonly string[] {
  const own = keyOf(ingress);
  return ingress.rules.flatMap(({ host = '', paths }) =>
    paths.flatMap(({ path, pathType }) => {
      const other = table.contributors
        .get(host)
        ?.find(
          (each) =>
            keyOf(each) !== own &&
            !table.settings.get(keyOf(each))?.canary &&
            each.rules.some(
              (rule) =>
                (rule.host ?? '') === host && rule.paths.some((one) => one.path === path && one.pathType === pathType),
            ),
        );
      return other
        ? [`host "${host === '' ? '_' : host}" and path "${path}" is already defined in ingress ${keyOf(other)}`]
        : [];
    }),
  );
}

function routesOf({ namespace, rules, defaultBackend }: IngressRecord): readonly string[] {
  const service = (backend: IngressRecord['defaultBackend']): string =>
    backend?.kind === 'service'
      ? `${namespace}/${backend.service}:${portText(backend.port)}`
      : 'a resource, which answers 503';
  return [
    ...rules.flatMap(({ host, paths }) =>
      paths.map(({ path, pathType, backend }) => `${host ?? '*'}${path} (${pathType}) → ${service(backend)}`),
    ),
    ...(defaultBackend ? [`the rest → ${service(defaultBackend)}`] : []),
  ];
}

function keyOf({ namespace, name }: IngressRecord): ObjectKey {
  return `${namespace}/${name}`;
}
