import type { IngressPortRef } from '../model/records.ts';
import type { Endpoint } from '../model/snapshot.ts';
import { unavailableText } from './backend.ts';
import type { RedirectSettings } from './annotations/redirect.ts';
import { rewrite, type Rewritten } from './annotations/rewrite.ts';
import type { IngressSettings } from './annotations/settings.ts';
import type { TemplateRequest } from './annotations/template.ts';
import { DEFAULT_GLOBALS, type GlobalSettings } from './global-settings.ts';
import { normalisePath } from './path.ts';
import { DEFAULT_BACKEND, type HostRoutes, type Location, type OtherName } from './host-routes.ts';
import type { RouteTable } from './route-table.ts';

export interface RouteQuestion {
  readonly scheme: 'http' | 'https';
  /** As in the Host header; a port, upper case and a dot at the end do not matter. */
  readonly host: string;
  /** Path of the target, without or with a query. */
  readonly path: string;
}

export type RouteAnswer =
  | {
      readonly kind: 'backend';
      readonly ingress: { readonly namespace: string; readonly name: string };
      readonly location: Location;
      readonly service: string;
      readonly port: IngressPortRef;
      readonly endpoints: readonly Endpoint[];
      /** The path that the backend gets. */
      readonly path: string;
    }
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly reason: string;
      /** Of a redirect. */
      readonly location?: string;
    };

/**
 * What the Ingress plane does with a request of a client that is let in, without a socket: the same code as the data path
 * decides. What depends on header fields (authentication, canary by header, affinity) is left out.
 */
export function route(table: RouteTable, question: RouteQuestion): RouteAnswer {
  const mark = question.path.indexOf('?');
  const raw = mark < 0 ? question.path : question.path.slice(0, mark);
  const query = mark < 0 ? '' : question.path.slice(mark);
  const path = raw.startsWith('/') ? normalisePath(raw) : undefined;
  if (path === undefined) return { kind: 'status', status: 400, reason: 'the path is malformed' };
  const host = hostName(question.host);
  const secure = question.scheme === 'https';
  const asked = { secure, host: question.host, method: 'GET', path, query, remoteAddress: '', localPort: 0 };
  const request = { ...asked, header: () => undefined };
  const globals = table.selection.globals ?? DEFAULT_GLOBALS;
  const routes = findHost(table, host);
  if (!routes) {
    const url = wwwTarget(table, host, request);
    if (url !== undefined) return redirected(globals.redirectStatus, url);
    return toLocation(table, table.hosts.get(DEFAULT_BACKEND)?.fallback, path, query);
  }
  const location = findLocation(routes, path);
  const settings = location?.settings ?? routes.unmatched;
  const denied = location?.denied ?? settings?.denied;
  if (denied !== undefined) return { kind: 'status', status: 503, reason: denied };
  const redirect = settings && redirectOf(settings, routes, globals, request);
  if (redirect) return redirected(redirect.status, redirect.location);
  const slash = withSlash(routes, request);
  if (slash !== undefined) return redirected(301, slash);
  return toLocation(table, location ?? table.hosts.get(DEFAULT_BACKEND)?.fallback, path, query);
}

function toLocation(table: RouteTable, location: Location | undefined, path: string, query: string): RouteAnswer {
  if (!location) return { kind: 'status', status: 404, reason: 'no Ingress rule matches this host and path' };
  const rewritten = rewriteOf(location, path, query);
  if (rewritten.kind === 'redirect') return redirected(302, rewritten.url);
  if (rewritten.kind === 'bad') return { kind: 'status', status: 400, reason: 'the path is malformed' };
  const { ref, target } = table.backends.get(location.backend.key) ?? {
    ref: location.backend,
    target: { kind: 'unavailable' as const, reason: 'no-service' as const },
  };
  if (target.kind === 'unavailable' || ref.backend.kind === 'resource') {
    const reason = target.kind === 'unavailable' ? target.reason : 'resource';
    return { kind: 'status', status: 503, reason: unavailableText(ref, reason) };
  }
  const { service, port } = ref.backend;
  const { ingress } = location;
  return { kind: 'backend', ingress, location, service, port, endpoints: target.endpoints, path: rewritten.path };
}

function redirected(status: number, location: string): RouteAnswer {
  return { kind: 'status', status, reason: 'an annotation or a certificate sends this request elsewhere', location };
}

/** The host of a Host header, as it is looked up: no port, lower case, no dot at the end. */
export function hostName(header: string): string {
  const bracket = header.startsWith('[') ? header.indexOf(']') : -1;
  const colon = header.indexOf(':', bracket + 1);
  const host = colon < 0 ? header : header.slice(0, colon);
  return (host.endsWith('.') ? host.slice(0, -1) : host).toLowerCase();
}

/** The exact host, else `*.domain` for one label more, else what takes every host. */
export function findHost(table: RouteTable, host: string): HostRoutes | undefined {
  const exact = host === '' ? undefined : table.hosts.get(host);
  if (exact) return exact;
  const dot = host.indexOf('.');
  const wildcard = dot > 0 ? table.hosts.get(`*${host.slice(dot)}`) : undefined;
  const alias = table.otherNames.size > 0 ? otherName(table, host) : undefined;
  // A name that is given in full is nearer than a wildcard host.
  if (wildcard && (!alias || table.otherNames.get(host) === undefined)) return wildcard;
  if (alias?.kind === 'alias') return table.hosts.get(alias.host);
  return alias ? undefined : table.hosts.get('');
}

/** What a name that is no host leads to. */
function otherName(table: RouteTable, host: string): OtherName | undefined {
  const exact = table.otherNames.get(host)?.[0];
  const dot = host.indexOf('.');
  return exact ?? (dot > 0 ? table.otherNames.get(`*${host.slice(dot)}`)?.[0] : undefined);
}

/** Where from-to-www-redirect sends a name that no host has; its port stays. */
export function wwwTarget(table: RouteTable, host: string, request: TemplateRequest): string | undefined {
  const other = table.otherNames.size > 0 ? otherName(table, host) : undefined;
  if (other?.kind !== 'redirect') return undefined;
  const port = /:[0-9]+$/.exec(request.host)?.[0] ?? '';
  return `${request.secure ? 'https' : 'http'}://${other.host}${port}${request.path}${request.query}`;
}

/** The location of a normal path: Exact, else the longest, Prefix before a literal prefix of the same length. */
export function findLocation(routes: HostRoutes, path: string): Location | undefined {
  if (routes.regex) return routes.regex.find(({ regex }) => regex?.test(path)) ?? routes.fallback;
  const exact = routes.exact.get(path);
  if (exact) return exact;
  const prefix = routes.prefix.size > 0 ? longestPrefix(routes, path) : undefined;
  for (const literal of routes.literal) {
    if (prefix && literal.matchPath.length <= Math.max(1, prefix.matchPath.length)) break;
    if (path.startsWith(literal.matchPath)) return literal;
  }
  return prefix ?? routes.fallback;
}

/** Where nginx sends a request that lacks the slash at the end of a rule; undefined where it does not. */
export function withSlash(routes: HostRoutes, request: TemplateRequest): string | undefined {
  if (routes.slashed.size === 0 || !routes.slashed.has(request.path)) return undefined;
  const origin = routes.unmatched?.redirect.relative ? '' : bareOrigin(request);
  return `${origin}${request.path}/${request.query}`;
}

/** Without a port, as nginx' port_in_redirect off has it. */
function bareOrigin(request: TemplateRequest): string {
  return `${request.secure ? 'https' : 'http'}://${hostName(request.host)}`;
}

/** The redirect that stands in the way of a location, in the order of nginx' phases: app-root, the location's own, HTTPS. */
export function redirectOf(
  settings: IngressSettings,
  routes: HostRoutes,
  globals: GlobalSettings,
  request: TemplateRequest,
): { readonly status: number; readonly location: string } | undefined {
  const { redirect } = settings;
  if (redirect.appRoot && request.path === '/') {
    const origin = `${request.secure ? 'https' : 'http'}://${request.host}`;
    return { status: 302, location: origin + redirect.appRoot.render(request) };
  }
  if (redirect.to) {
    const url = redirect.to.url.render(request);
    const { status } = redirect.to;
    // nginx' absolute_redirect.
    return { status, location: url.startsWith('/') && !redirect.relative ? bareOrigin(request) + url : url };
  }
  if (request.secure || !toHttps(redirect, routes)) return undefined;
  if (globals.noTlsRedirect.some((start) => request.path.startsWith(start))) return undefined;
  const target = request.path + request.query;
  // ingress-nginx takes one slash off the end, also behind a query.
  const kept = target.endsWith('/') && !redirect.keepSlash ? target.slice(0, -1) : target;
  return { status: globals.redirectStatus, location: `https://${hostName(request.host)}${kept}` };
}

/** Whether plain HTTP of a location goes to HTTPS. */
export function toHttps(redirect: RedirectSettings, routes: HostRoutes): boolean {
  return redirect.force || (redirect.ssl && routes.tls);
}

/** What the backend is asked for. */
export function rewriteOf(location: Location, path: string, query: string): Rewritten {
  const { target } = location.settings.rewrite;
  if (target === undefined) return { kind: 'path', path, query };
  return rewrite(target, location.regex?.exec(path) ?? [path], query);
}

/** Element-wise: looks up the path and each of its parents, but nothing longer than the longest rule. */
function longestPrefix(routes: HostRoutes, path: string): Location | undefined {
  let end = path.endsWith('/') ? path.length - 1 : path.length;
  if (end > routes.longestPrefix) end = path.lastIndexOf('/', routes.longestPrefix);
  while (end >= 0) {
    const found = routes.prefix.get(path.slice(0, end));
    if (found || end === 0) return found;
    end = path.lastIndexOf('/', end - 1);
  }
  return undefined;
}
