// Why a URL is answered as it is: the host that takes it, the rule among those that match, the annotations that hold there, the
// endpoints behind it. The same code as the data path decides; here it is only told.

import type { IngressRecord, ObjectKey } from '../model/records.ts';
import type { Cidr } from '../lib/cidr.ts';
import { unknownKind } from './annotations/known.ts';
import { DEFAULT_PREFIX, type IngressSettings } from './annotations/settings.ts';
import { portText, unavailableText, type BackendRef } from './backend.ts';
import { DEFAULT_BACKEND, locationsOf, type HostRoutes, type Location } from './host-routes.ts';
import { findHost, findLocation, hostName, route, wwwTarget, type RouteAnswer } from './match.ts';
import { normalisePath } from './path.ts';
import type { RouteTable } from './route-table.ts';

export interface IngressExplanation {
  readonly url: string;
  /** What is matched: the normal form. */
  readonly path: string | undefined;
  readonly host: { readonly name: string; readonly why: string; readonly ingresses: readonly ObjectKey[] };
  /** Of HTTPS: what the client is shown. */
  readonly certificate: string | undefined;
  readonly location: LocationExplanation | undefined;
  /** Rules of the host that match the path too, and why another one goes before. */
  readonly passedOver: readonly { readonly rule: string; readonly why: string }[];
  readonly annotations: readonly AnnotationExplanation[];
  readonly backend: BackendExplanation | undefined;
  readonly canary: (BackendExplanation & { readonly when: string }) | undefined;
  /** What stands before the backend, in the order in which it is looked at. */
  readonly checks: readonly string[];
  readonly answer: string;
  readonly status: number | undefined;
}

export interface LocationExplanation {
  readonly rule: string;
  readonly ingress: ObjectKey;
  readonly why: string;
}

export interface AnnotationExplanation {
  readonly name: string;
  readonly value: string;
  readonly effect: string;
}

export interface BackendExplanation {
  readonly backend: string;
  readonly endpoints: readonly string[];
  readonly unavailable: string | undefined;
  readonly how: string;
}

export interface ExplainedUrl {
  readonly scheme: 'http' | 'https';
  readonly host: string;
  /** Path with query. */
  readonly path: string;
}

/** `http://host/path`, or `host/path`, which means http. Undefined for what is no such URL. */
export function readUrl(text: string): ExplainedUrl | undefined {
  const match = /^(?:(https?):\/\/)?(\[[0-9A-Fa-f:.]+\](?::[0-9]+)?|[A-Za-z0-9.*_-]+(?::[0-9]+)?)?(\/[^\s#]*)?$/.exec(
    text,
  );
  if (!match || (match[2] === undefined && match[3] === undefined)) return undefined;
  return { scheme: match[1] === 'https' ? 'https' : 'http', host: match[2] ?? '', path: match[3] ?? '/' };
}

export function explainUrl(table: RouteTable, url: ExplainedUrl): IngressExplanation {
  const raw = url.path.split('?')[0] ?? '/';
  const path = normalisePath(raw);
  const name = hostName(url.host);
  const routes = findHost(table, name);
  const found = routes && path !== undefined ? findLocation(routes, path) : undefined;
  const location = found ?? table.hosts.get(DEFAULT_BACKEND)?.fallback;
  const answer = route(table, url);
  const settings = location?.settings ?? routes?.unmatched;
  const owner = location?.ingress ?? ownerOf(table, routes);
  return {
    url: `${url.scheme}://${url.host === '' ? '*' : url.host}${url.path}`,
    path,
    host: hostOf(table, name, url, routes),
    certificate: url.scheme === 'https' ? certificateText(table, name) : undefined,
    location: location && {
      rule: ruleText(location),
      ingress: keyOf(location.ingress),
      why: whyLocation(location, routes, found !== undefined),
    },
    passedOver: routes && path !== undefined ? passedOver(routes, path, location) : [],
    annotations: owner ? annotationsOf(table, keyOf(owner)) : [],
    backend: location && backendOf(table, location.backend),
    canary: location?.canary && {
      ...backendOf(table, location.canary.backend),
      when: canaryText(location.canary.settings),
    },
    checks: settings && answer.kind === 'backend' ? checksOf(settings) : [],
    answer: answerText(answer),
    status: answer.kind === 'status' ? answer.status : undefined,
  };
}

function hostOf(
  table: RouteTable,
  name: string,
  url: ExplainedUrl,
  routes: HostRoutes | undefined,
): IngressExplanation['host'] {
  if (!routes) {
    const request = { secure: url.scheme === 'https', host: url.host, method: 'GET', path: url.path, query: '' };
    const www = wwwTarget(table, name, { ...request, remoteAddress: '', localPort: 0, header: () => undefined });
    const why =
      www === undefined
        ? 'no Ingress names it, none has a wildcard that covers it, and none takes every host'
        : 'from-to-www-redirect of another host has this as its other name';
    return { name, why, ingresses: [] };
  }
  const ingresses = (table.contributors.get(routes.host) ?? []).map(keyOf);
  if (routes.host === name) return { name, why: 'an Ingress names it', ingresses };
  if (routes.host === '')
    return { name, why: 'no Ingress names it: rules and default backends without a host take it', ingresses };
  if (routes.host.startsWith('*'))
    return { name, why: `${routes.host} covers it, as no Ingress names it in full`, ingresses };
  return { name, why: `it is a server-alias of ${routes.host}`, ingresses };
}

/** As the SNI table looks it up. */
function certificateText(table: RouteTable, name: string): string {
  const dot = name.indexOf('.');
  const alias = table.otherNames.get(name)?.[0];
  const ref =
    table.certificates.get(name) ??
    (alias && table.certificates.get(alias.host)) ??
    (dot > 0 ? table.certificates.get(`*${name.slice(dot)}`) : undefined);
  if (!ref) return 'the default certificate: no `tls` entry of an Ingress names this host';
  const there = table.snapshot.secrets.has(ref.secret);
  return `Secret ${ref.secret} (Ingress ${ref.ingress})${there ? '' : ', which is not there: the default certificate'}`;
}

function whyLocation(location: Location, routes: HostRoutes | undefined, own: boolean): string {
  if (!own) return 'nothing else takes the request, so --default-backend-service does';
  if (location === routes?.fallback) return 'no path of the host matches, so its default backend takes the request';
  if (location.regex) {
    return 'use-regex or rewrite-target of an Ingress of the host makes every path an expression; of those that match, the longest text is first';
  }
  switch (location.pathType) {
    case 'Exact':
      return 'an Exact path that equals the request goes before all others';
    case 'Prefix':
      return 'it is the longest path that matches, element by element';
    case 'ImplementationSpecific':
      return 'it is the longest text that the path begins with';
  }
}

function passedOver(routes: HostRoutes, path: string, chosen: Location | undefined): IngressExplanation['passedOver'] {
  return locationsOf(routes)
    .filter((other) => other !== chosen && other !== routes.fallback && takes(other, path))
    .map((other) => ({ rule: `${ruleText(other)} of ${keyOf(other.ingress)}`, why: whyNot(other, chosen) }));
}

function takes(location: Location, path: string): boolean {
  if (location.regex) return location.regex.test(path);
  switch (location.pathType) {
    case 'Exact':
      return location.matchPath === path;
    case 'Prefix':
      return path === location.matchPath || path.startsWith(`${location.matchPath}/`);
    case 'ImplementationSpecific':
      return path.startsWith(location.matchPath);
  }
}

function whyNot(other: Location, chosen: Location | undefined): string {
  if (!chosen) return 'it is not used';
  if (chosen.regex) return 'its text is shorter, or of the same length and later';
  if (chosen.pathType === 'Exact') return 'an Exact path goes before it';
  if (other.matchPath.length === chosen.matchPath.length) return 'Prefix goes before text of the same length';
  return 'its path is shorter';
}

function annotationsOf(table: RouteTable, ingress: ObjectKey): readonly AnnotationExplanation[] {
  const record = table.snapshot.ingresses.get(ingress);
  const settings = table.settings.get(ingress);
  const prefix = `${table.selection.annotationsPrefix ?? DEFAULT_PREFIX}/`;
  if (!record || !settings) return [];
  return [...record.annotations]
    .filter(([full]) => full.startsWith(prefix))
    .map(([full, value]) => {
      const name = full.slice(prefix.length);
      return { name, value, effect: effectOf(name, value, settings) };
    });
}

function effectOf(name: string, value: string, settings: IngressSettings): string {
  const problem = settings.problems.find((each) => each.name === name);
  if (problem)
    return `${problem.effect === 'denied' ? 'shuts the locations of this Ingress (503)' : 'no effect'}: ${problem.reason}`;
  const known = settings.known.has(name);
  return known || unknownKind(name, value) !== 'no-effect' ? 'applied' : 'no effect here';
}

function backendOf(table: RouteTable, ref: BackendRef): BackendExplanation {
  const target = table.backends.get(ref.key)?.target ?? { kind: 'unavailable' as const, reason: 'no-service' as const };
  const named = ref.backend.kind === 'service' ? `${ref.backend.service}:${portText(ref.backend.port)}` : ref.key;
  return {
    backend: ref.backend.kind === 'service' ? `Service ${ref.namespace}/${named}` : named,
    endpoints: target.kind === 'endpoints' ? target.endpoints.map(({ ip, port }) => `${ip}:${port}`) : [],
    unavailable: target.kind === 'unavailable' ? unavailableText(ref, target.reason) : undefined,
    how: `${ref.upstream.protocol.toUpperCase()}${ref.upstream.serviceAddress ? ', to the address of the Service' : ''}`,
  };
}

function canaryText(canary: NonNullable<Location['canary']>['settings']): string {
  const { header, headerValue, headerPattern, cookie, weight, weightTotal } = canary;
  const value = headerValue !== undefined ? `is "${headerValue}"` : headerPattern ? 'fits the pattern' : 'is "always"';
  return [
    ...(header === undefined ? [] : [`header ${header} ${value}`]),
    ...(cookie === undefined ? [] : [`cookie ${cookie} is "always"`]),
    ...(weight > 0 ? [`${weight} of ${weightTotal} requests`] : []),
  ].join('; ');
}

/** What a request has to pass that this explanation has no header fields or client address for. */
function checksOf(settings: IngressSettings): readonly string[] {
  const { access, limits, basicAuth, externalAuth, affinity, cors } = settings;
  const ranges = (list: readonly Cidr[]): string => list.join(', ');
  return [
    ...(cors ? ['OPTIONS is answered 204 here, as a preflight (enable-cors)'] : []),
    ...(limits ? ['limits for each client address; above them 503, or what the ConfigMap says'] : []),
    ...(access.deny ? [`clients in ${ranges(access.deny)} get 403`] : []),
    ...(access.allow ? [`clients outside ${ranges(access.allow)} get 403`] : []),
    ...(basicAuth ? [`a password of Secret ${basicAuth.secret}, else 401`] : []),
    ...(externalAuth
      ? [`${externalAuth.authority} is asked: 2xx lets pass, 401 and 403 are the answer, all else is 500`]
      : []),
    ...(affinity ? [`cookie ${affinity.cookie} keeps a client on its endpoint`] : []),
  ];
}

function answerText(answer: RouteAnswer): string {
  if (answer.kind === 'status') {
    const { status, reason, location } = answer;
    return `${status}${location === undefined ? '' : ` to ${location}`}: ${reason}`;
  }
  const { endpoints, path } = answer;
  const where = endpoints.length === 1 ? 'the endpoint' : `one of the ${endpoints.length} endpoints`;
  return `what ${where} of Service ${answer.location.backend.namespace}/${answer.service} says to ${path}`;
}

/** Where no location takes the path: the oldest Ingress of the host, whose settings hold there. */
function ownerOf(table: RouteTable, routes: HostRoutes | undefined): IngressRecord | undefined {
  if (!routes) return undefined;
  return table.contributors.get(routes.host)?.find((each) => table.settings.get(keyOf(each)) === routes.unmatched);
}

function ruleText({ host, path, pathType }: Location): string {
  return `${host === '' ? '*' : host}${path} (${pathType})`;
}

function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): ObjectKey {
  return namespace === '' ? '--default-backend-service' : `${namespace}/${name}`;
}
