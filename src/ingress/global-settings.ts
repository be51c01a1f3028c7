// The controller's ConfigMap: what holds for every Ingress that does not say otherwise.

import type { Cidr } from '../lib/cidr.ts';
import type { ConfigMapRecord, ObjectKey } from '../model/records.ts';
import { readCodes } from './annotations/error-pages.ts';
import { readExternalAuth, type ExternalAuthSettings } from './annotations/external-auth.ts';
import { objectRef, SettingReader, type Problem } from './annotations/reader.ts';
import { readAnswerRewrite, type AnswerRewrite } from './annotations/answer-rewrite.ts';
import { parseTemplate, type Template } from './annotations/template.ts';
import { parseSnippet, type Directive } from './annotations/snippet.ts';
import { RISKS, type AnnotationPolicy } from './annotations/risk.ts';
import { readBlockList, type BlockList } from './block-list.ts';
import { DEFAULT_FRONT, readFront, type FrontSettings } from './front-settings.ts';
import { readConnections, readStreamKeys, type ConnectionSettings, type StreamKeys } from './connection-settings.ts';
import { DEFAULT_LOG, readLogSettings, type LogSettings } from './log-format.ts';
import { DEFAULT_MESSAGES, readMessages, type MessageSettings } from './message-settings.ts';
import { DEFAULT_RETRY, readTransfer, type TransferSettings } from './annotations/transfer.ts';

export const BALANCES = ['round_robin', 'ewma'] as const;
export type Balance = (typeof BALANCES)[number];

export interface GlobalSettings {
  readonly transfer: TransferSettings;
  readonly sslRedirect: boolean;
  readonly forceSslRedirect: boolean;
  readonly redirectStatus: number;
  readonly preserveTrailingSlash: boolean;
  /** Starts of paths that are never sent to HTTPS. */
  readonly noTlsRedirect: readonly string[];
  readonly serviceUpstream: boolean;
  readonly allowCrossNamespace: boolean;
  readonly allow: readonly Cidr[] | undefined;
  readonly deny: readonly Cidr[] | undefined;
  readonly limitRequestStatus: number;
  readonly limitConnectionStatus: number;
  /** Names that `custom-headers` may set, in lower case. */
  readonly allowedResponseHeaders: readonly string[];
  /** `--enable-ssl-passthrough`. */
  readonly sslPassthrough: boolean;
  readonly front: FrontSettings;
  /** Value of Strict-Transport-Security on every answer over HTTPS; undefined for none. */
  readonly hsts: string | undefined;
  /** `load-balance`. */
  readonly balance: Balance;
  readonly answerRewrite: AnswerRewrite | undefined;
  /** `limit-conn-zone-variable`: whose requests limits count together; undefined for the client's address. */
  readonly limitKey: Template | undefined;
  readonly relativeRedirects: boolean;
  readonly messages: MessageSettings;
  /** ConfigMaps with fields for every answer, and for every request to a backend. */
  readonly addHeaders: ObjectKey | undefined;
  readonly proxySetHeaders: ObjectKey | undefined;
  /** Fields that no answer keeps, in lower case. */
  readonly hideHeaders: readonly string[];
  /** global-auth-url: for Ingresses that name no service of their own. */
  readonly externalAuth: ExternalAuthSettings | undefined;
  /** Starts of rule paths that are not guarded by a password or an auth service. */
  readonly noAuth: readonly string[];
  readonly blocks: BlockList | undefined;
  /** custom-http-errors. */
  readonly errorCodes: ReadonlySet<number>;
  readonly policy: AnnotationPolicy;
  /** For every location, before and after those of its Ingress. */
  readonly serverSnippet: readonly Directive[];
  readonly locationSnippet: readonly Directive[];
  readonly log: LogSettings;
  readonly connections: ConnectionSettings;
  readonly streams: StreamKeys;
  /** `strict-validate-path-type`, for admission. */
  readonly strictPathType: boolean;
  /** Something that guards every location cannot be carried out: all answer 503. */
  readonly denied: string | undefined;
  readonly problems: readonly Problem[];
  /** Keys that are given and set something that is not here, where nothing is missed without it. */
  readonly withoutEffect: readonly string[];
}

/** ingress-nginx' defaults. */
export const DEFAULT_GLOBALS: GlobalSettings = {
  transfer: {
    maxBody: 1024 * 1024,
    connectMs: 5_000,
    readMs: 60_000,
    sendMs: 60_000,
    tunnelMs: 60_000,
    retry: DEFAULT_RETRY,
    rate: undefined,
  },
  sslRedirect: true,
  forceSslRedirect: false,
  redirectStatus: 308,
  preserveTrailingSlash: false,
  noTlsRedirect: ['/.well-known/acme-challenge'],
  serviceUpstream: false,
  allowCrossNamespace: false,
  allow: undefined,
  deny: undefined,
  limitRequestStatus: 503,
  limitConnectionStatus: 503,
  allowedResponseHeaders: [],
  sslPassthrough: false,
  front: DEFAULT_FRONT,
  hsts: 'max-age=31536000; includeSubDomains',
  balance: 'round_robin',
  answerRewrite: undefined,
  limitKey: undefined,
  relativeRedirects: false,
  messages: DEFAULT_MESSAGES,
  addHeaders: undefined,
  proxySetHeaders: undefined,
  hideHeaders: [],
  externalAuth: undefined,
  noAuth: ['/.well-known/acme-challenge'],
  blocks: undefined,
  errorCodes: new Set(),
  log: DEFAULT_LOG,
  connections: {},
  streams: {},
  policy: { maxRisk: 'High', forbiddenWords: [], allowSnippets: false },
  serverSnippet: [],
  locationSnippet: [],
  strictPathType: true,
  denied: undefined,
  problems: [],
  withoutEffect: [],
};

/** Keys that guard every location: not to carry them out would open doors. */
const GUARDS =
  /^(enable-modsecurity|enable-owasp-modsecurity-crs|modsecurity-snippet|main-snippet|http-snippet|global-auth-snippet)$/;

/** What is said of keys whose work is done by something else here. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ['worker-processes', 'the number of threads is given at the start, with --workers'],
  ['bind-address', 'it listens on every address; what may reach it is for the Service in front or a NetworkPolicy'],
  ['disable-ipv6', 'it listens on both families'],
  ['error-log-level', 'how much is logged is given at the start, with -v'],
  ['error-log-path', 'the log goes to standard error'],
  ['access-log-path', 'the access log goes to standard output'],
  ['http-access-log-path', 'the access log goes to standard output'],
  ['access-log-params', 'the access log goes to standard output'],
  ['enable-ocsp', 'answers of OCSP are not stapled'],
  ['ssl-dh-param', 'groups of OpenSSL are used for finite-field key exchange'],
  ['nginx-status-ipv4-whitelist', 'there is no /nginx_status; see /metrics and /state'],
  ['nginx-status-ipv6-whitelist', 'there is no /nginx_status; see /metrics and /state'],
]);

/** Settings of nginx' own machinery, which has no counterpart here. */
const NO_EFFECT =
  /^(max-worker-.*|worker-cpu-affinity|enable-serial-reloads|enable-multi-accept|enable-aio-write|.*-hash-.*size|variables-hash-.*|lua-shared-dicts|ssl-buffer-size|disable-ipv6-dns|proxy-busy-buffers-size|proxy-ssl-location-only|http2-max-(field|header)-size|http2-max-requests|use-geoip|reuse-port|grpc-buffer-size-kb|default-type|client-header-buffer-size|ssl-session-cache-size|forwarded-for-proxy-protocol-header|proxy-max-temp-file-size|proxy-(request-)?buffering|proxy-buffer-size|proxy-buffers-number|client-body-buffer-size|jaeger-.*)$/;

export function readGlobals(map: ConfigMapRecord | undefined, base: GlobalSettings): GlobalSettings {
  if (!map || map.data.size === 0) return base;
  const reader = new SettingReader((name) => map.data.get(name));
  const status = (name: string, fallback: number): number => {
    const value = reader.integer(name);
    return value !== undefined && value >= 300 && value < 600 ? value : fallback;
  };
  const nonIdempotent = reader.bool('retry-non-idempotent');
  const transfer = readTransfer(reader, base.transfer);
  const settings = {
    transfer: nonIdempotent === true ? { ...transfer, retry: { ...transfer.retry, nonIdempotent } } : transfer,
    sslRedirect: reader.bool('ssl-redirect') ?? base.sslRedirect,
    forceSslRedirect: reader.bool('force-ssl-redirect') ?? base.forceSslRedirect,
    redirectStatus: status('http-redirect-code', base.redirectStatus),
    preserveTrailingSlash: reader.bool('preserve-trailing-slash') ?? base.preserveTrailingSlash,
    noTlsRedirect: reader.list('no-tls-redirect-locations') ?? base.noTlsRedirect,
    serviceUpstream: reader.bool('service-upstream') ?? base.serviceUpstream,
    allowCrossNamespace: reader.bool('allow-cross-namespace-resources') ?? base.allowCrossNamespace,
    allow: reader.ranges('whitelist-source-range') ?? base.allow,
    deny: reader.ranges('denylist-source-range') ?? base.deny,
    limitRequestStatus: status('limit-req-status-code', base.limitRequestStatus),
    limitConnectionStatus: status('limit-conn-status-code', base.limitConnectionStatus),
    sslPassthrough: base.sslPassthrough,
    front: readFront(reader, base.front),
    allowedResponseHeaders: (reader.list('global-allowed-response-headers') ?? []).map((name) => name.toLowerCase()),
    hsts: readHsts(reader, base.hsts),
    balance: reader.oneOf('load-balance', BALANCES) ?? base.balance,
    answerRewrite: readAnswerRewrite(reader, base.answerRewrite),
    limitKey: readLimitKey(reader),
    relativeRedirects: reader.bool('relative-redirects') ?? base.relativeRedirects,
    messages: readMessages(reader, base.messages),
    addHeaders: mapRef(reader, 'add-headers'),
    proxySetHeaders: mapRef(reader, 'proxy-set-headers'),
    hideHeaders: (reader.list('hide-headers') ?? []).map((name) => name.toLowerCase()),
    externalAuth: readExternalAuth(reader, { prefix: 'global-', namespace: '', allowCrossNamespace: true }),
    noAuth: reader.list('no-auth-locations') ?? base.noAuth,
    blocks: readBlockList(reader),
    errorCodes: readCodes(reader) ?? base.errorCodes,
    log: readLogSettings(reader),
    connections: readConnections(reader),
    streams: readStreamKeys(reader),
    policy: {
      maxRisk: reader.oneOf('annotations-risk-level', RISKS) ?? base.policy.maxRisk,
      forbiddenWords: reader.list('annotation-value-word-blocklist') ?? base.policy.forbiddenWords,
      allowSnippets: reader.bool('allow-snippet-annotations') ?? base.policy.allowSnippets,
    },
    serverSnippet: readSnippet(reader, 'server-snippet'),
    locationSnippet: readSnippet(reader, 'location-snippet'),
    strictPathType: reader.bool('strict-validate-path-type') ?? base.strictPathType,
  };
  const unread = [...map.data].filter(([name, value]) => !reader.seen.has(name) && value.trim() !== '');
  for (const [name, value] of unread) tellOfUnknown(reader, name, value.trim());
  const withoutEffect = unread.flatMap(([name]) => (NO_EFFECT.test(name) ? [name] : []));
  const denial = reader.problems.find(({ effect }) => effect === 'denied');
  return {
    ...settings,
    denied: denial && `${denial.name}: ${denial.reason}`,
    problems: reader.problems,
    withoutEffect,
  };
}

/** What cannot be carried out shuts every location: it may be what guards them. */
function readSnippet(reader: SettingReader, name: string): readonly Directive[] {
  const text = reader.lines(name);
  const parsed = text === undefined ? undefined : parseSnippet(text);
  if (parsed?.kind === 'refused') reader.denies(name, parsed.reason);
  return parsed?.kind === 'directives' ? parsed.directives : [];
}

function readLimitKey(reader: SettingReader): Template | undefined {
  const text = reader.text('limit-conn-zone-variable');
  const parsed = text === undefined ? undefined : parseTemplate(text);
  if (parsed?.kind === 'template') return parsed.template;
  return parsed && reader.ignored('limit-conn-zone-variable', `the variable $${parsed.variable} is not known`);
}

function readHsts(reader: SettingReader, fallback: string | undefined): string | undefined {
  const on = reader.bool('hsts') ?? fallback !== undefined;
  const age = reader.integer('hsts-max-age') ?? 31_536_000;
  const subdomains = reader.bool('hsts-include-subdomains') ?? true;
  const preload = reader.bool('hsts-preload') ?? false;
  return on ? `max-age=${age}${subdomains ? '; includeSubDomains' : ''}${preload ? '; preload' : ''}` : undefined;
}

function mapRef(reader: SettingReader, name: string): ObjectKey | undefined {
  const value = reader.text(name);
  if (value === undefined) return undefined;
  const ref = value.includes('/') ? objectRef(value, '') : undefined;
  return ref ? ref.key : reader.ignored(name, `${JSON.stringify(value)} is not namespace/name of a ConfigMap`);
}

function tellOfUnknown(reader: SettingReader, name: string, value: string): void {
  if (NO_EFFECT.test(name)) return;
  if (GUARDS.test(name) && !/^(false|off)$/i.test(value)) {
    reader.denies(name, 'this version cannot carry it out, and without it every location would be less guarded');
  } else if (!GUARDS.test(name)) reader.unknown(name, ELSEWHERE.get(name) ?? 'this version does not know it');
}
