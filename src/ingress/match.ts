import type { IngressPortRef } from '../model/records.ts';
import type { Endpoint } from '../model/snapshot.ts';
import { unavailableText } from './backend.ts';
import { normalisePath } from './path.ts';
import type { HostRoutes, Location, RouteTable } from './route-table.ts';

export interface RouteQuestion {
  readonly scheme: 'http' | 'https';
  /** As in the Host header; a port, upper case and a dot at the end do not matter. */
  readonly host: string;
  /** Path of the target, without or with a query. */
  readonly path: string;
}

export interface RouteOptions {
  /** Send plain HTTP on to HTTPS for a host that an Ingress covers with `tls`. */
  readonly sslRedirect: boolean;
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
  | { readonly kind: 'status'; readonly status: 308; readonly reason: string; readonly location: string }
  | { readonly kind: 'status'; readonly status: 400 | 404 | 503; readonly reason: string };

/** What the Ingress plane does with a request, without a socket: the same code as the data path decides. */
export function route(table: RouteTable, question: RouteQuestion, options: RouteOptions): RouteAnswer {
  const query = question.path.indexOf('?');
  const raw = query < 0 ? question.path : question.path.slice(0, query);
  const path = raw.startsWith('/') ? normalisePath(raw) : undefined;
  if (path === undefined) return { kind: 'status', status: 400, reason: 'the path is malformed' };
  const host = hostName(question.host);
  const routes = findHost(table, host);
  if (routes && redirects(routes, question.scheme === 'https', options.sslRedirect)) {
    const target = query < 0 ? path : path + question.path.slice(query);
    return { kind: 'status', status: 308, reason: 'this host is served by HTTPS', location: httpsUrl(host, target) };
  }
  const location = routes && findLocation(routes, path);
  if (!location) return { kind: 'status', status: 404, reason: 'no Ingress rule matches this host and path' };
  const { ref, target } = table.backends.get(location.backend.key) ?? {
    ref: location.backend,
    target: { kind: 'unavailable' as const, reason: 'no-service' as const },
  };
  if (target.kind === 'unavailable' || ref.backend.kind === 'resource') {
    const reason = target.kind === 'unavailable' ? target.reason : 'resource';
    return { kind: 'status', status: 503, reason: unavailableText(ref, reason) };
  }
  const { service, port } = ref.backend;
  return { kind: 'backend', ingress: location.ingress, location, service, port, endpoints: target.endpoints, path };
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
  return wildcard ?? table.hosts.get('');
}

/** The location of a normal path: Exact, else the longest, Prefix before a literal prefix of the same length. */
export function findLocation(routes: HostRoutes, path: string): Location | undefined {
  const exact = routes.exact.get(path);
  if (exact) return exact;
  const prefix = routes.prefix.size > 0 ? longestPrefix(routes, path) : undefined;
  for (const literal of routes.literal) {
    if (prefix && literal.matchPath.length <= Math.max(1, prefix.matchPath.length)) break;
    if (path.startsWith(literal.matchPath)) return literal;
  }
  return prefix ?? routes.fallback;
}

export function redirects(routes: HostRoutes, secure: boolean, sslRedirect: boolean): boolean {
  return sslRedirect && routes.tls && !secure;
}

/** ingress-nginx takes one slash off the end of the target when it redirects (also behind a query). */
export function httpsUrl(host: string, target: string): string {
  return `https://${host}${target.endsWith('/') ? target.slice(0, -1) : target}`;
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
