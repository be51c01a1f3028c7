// All annotations of one Ingress, read once into typed settings.

import type { IngressRecord, ObjectKey } from '../../model/records.ts';
import { BALANCES, type Balance, type GlobalSettings } from '../global-settings.ts';
import { readAnswerRewrite, type AnswerRewrite } from './answer-rewrite.ts';
import { readClientCertificate, type ClientCertificateSettings } from './auth-tls.ts';
import { readAccess, type AccessSettings } from './access.ts';
import { readAffinity, type AffinitySettings } from './affinity.ts';
import { readBasicAuth, type BasicAuthSettings } from './basic-auth.ts';
import { readCanary, type CanarySettings } from './canary.ts';
import { readCors, type CorsSettings } from './cors.ts';
import { readCustomHeaders } from './custom-headers.ts';
import { readErrorPages, type ErrorSettings } from './error-pages.ts';
import { readExternalAuth, type ExternalAuthSettings } from './external-auth.ts';
import { unknownKind } from './known.ts';
import { readLimits, type LimitSettings } from './limits.ts';
import { readMirror, type MirrorSettings } from './mirror.ts';
import { SettingReader, type Problem } from './reader.ts';
import { checkPolicy } from './risk.ts';
import { parseSnippet, type Directive } from './snippet.ts';
import { readRedirects, type RedirectSettings } from './redirect.ts';
import { readRewrite, type RewriteSettings } from './rewrite.ts';
import { parseTemplate, type Template } from './template.ts';
import { readTransfer, type TransferSettings } from './transfer.ts';
import { readUpstream, type UpstreamSettings } from './upstream.ts';

export const DEFAULT_PREFIX = 'nginx.ingress.kubernetes.io';

/** What holds for the locations of one Ingress. */
export interface IngressSettings {
  /** The location answers 503, because something that guards it cannot be carried out. */
  readonly denied: string | undefined;
  readonly redirect: RedirectSettings;
  readonly rewrite: RewriteSettings;
  readonly transfer: TransferSettings;
  readonly access: AccessSettings;
  readonly limits: LimitSettings | undefined;
  readonly cors: CorsSettings | undefined;
  readonly basicAuth: BasicAuthSettings | undefined;
  readonly externalAuth: ExternalAuthSettings | undefined;
  /** Of address lists, password and auth service all have to let a request in, or one. */
  readonly satisfy: 'all' | 'any';
  /** The directives of server-snippet and configuration-snippet. */
  readonly snippet: readonly Directive[] | undefined;
  /** The ConfigMap of proxy-set-headers. */
  readonly requestHeaders: ObjectKey | undefined;
  readonly accessLog: boolean;
  readonly errors: ErrorSettings | undefined;
  /** upstream-hash-by: requests with the same text go to the same endpoint, or to one of `subset` endpoints. */
  readonly hashBy: HashSettings | undefined;
  readonly balance: Balance;
  readonly answerRewrite: AnswerRewrite | undefined;
  readonly mirror: MirrorSettings | undefined;
  readonly affinity: AffinitySettings | undefined;
  readonly canary: CanarySettings | undefined;
  readonly upstream: UpstreamSettings;
  readonly clientCertificate: ClientCertificateSettings | undefined;
  /** TLS of the host goes to the backend of its first path as it is. */
  readonly passthrough: boolean;
  /** The ConfigMap of `custom-headers`. */
  readonly customHeaders: ObjectKey | undefined;
  readonly aliases: readonly string[];
  readonly problems: readonly Problem[];
  /** Names of the annotations that are read, without the prefix. */
  readonly known: ReadonlySet<string>;
}

export interface HashSettings {
  readonly key: Template;
  /** 1 without upstream-hash-by-subset. */
  readonly subset: number;
}

export function readSettings(
  ingress: Pick<IngressRecord, 'namespace' | 'annotations'>,
  globals: GlobalSettings,
  prefix: string,
): IngressSettings {
  const reader = new SettingReader((name) => ingress.annotations.get(`${prefix}/${name}`));
  const settings = {
    redirect: readRedirects(reader, globals),
    rewrite: readRewrite(reader),
    transfer: readTransfer(reader, globals.transfer),
    access: readAccess(reader, globals),
    limits: readLimits(reader),
    cors: readCors(reader),
    basicAuth: readBasicAuth(reader, globals, ingress.namespace),
    externalAuth: readAuth(reader, globals, ingress.namespace),
    satisfy: readSatisfy(reader),
    hashBy: readHashBy(reader),
    balance: reader.oneOf('load-balance', BALANCES) ?? globals.balance,
    answerRewrite: readAnswerRewrite(reader, globals.answerRewrite),
    errors: readErrorPages(reader, globals.errorCodes),
    snippet: readSnippets(reader, globals),
    requestHeaders: globals.proxySetHeaders,
    accessLog: reader.bool('enable-access-log') ?? true,
    mirror: readMirror(reader),
    affinity: readAffinity(reader),
    canary: readCanary(reader),
    upstream: readUpstream(reader, globals, ingress.namespace),
    clientCertificate: readClientCertificate(reader, globals, ingress.namespace),
    passthrough: readPassthrough(reader, globals),
    customHeaders: readCustomHeaders(reader, globals, ingress.namespace),
    aliases: readAliases(reader),
  };
  if (settings.affinity && settings.affinity.path === undefined && settings.rewrite.useRegex) {
    reader.ignored(
      'affinity',
      'session-cookie-path should be set when use-regex is true; the path of the rule is used',
    );
  }
  const own = [...ingress.annotations].flatMap(([full, value]) =>
    full.startsWith(`${prefix}/`) ? [[full.slice(prefix.length + 1), value] as const] : [],
  );
  checkPolicy(reader, globals.policy, own);
  for (const [full, value] of ingress.annotations) {
    if (!full.startsWith(`${prefix}/`)) continue;
    const name = full.slice(prefix.length + 1);
    if (!reader.seen.has(name)) tellOfUnknown(reader, name, value);
  }
  const denial = reader.problems.find(({ effect }) => effect === 'denied');
  const denied = globals.denied ?? (denial && `${denial.name}: ${denial.reason}`);
  return { ...settings, denied, problems: reader.problems, known: reader.seen };
}

function tellOfUnknown(reader: SettingReader, name: string, value: string): void {
  const kind = unknownKind(name, value);
  if (kind === 'guard')
    reader.denies(name, 'this version cannot carry it out, and without it the location would be less guarded');
  else if (kind === 'unsupported') reader.unknown(name, 'this version does not know it');
}

/** As in ingress-nginx it needs a flag; without it the host is served as others are. */
function readPassthrough(reader: SettingReader, globals: GlobalSettings): boolean {
  const wanted = reader.bool('ssl-passthrough') ?? false;
  if (wanted && !globals.sslPassthrough) reader.ignored('ssl-passthrough', 'it needs --enable-ssl-passthrough');
  return wanted && globals.sslPassthrough;
}

/** auth-url, or the service of the ConfigMap where the Ingress has none and does not opt out. */
function readAuth(reader: SettingReader, globals: GlobalSettings, namespace: string): ExternalAuthSettings | undefined {
  const own = readExternalAuth(reader, { prefix: '', namespace, allowCrossNamespace: globals.allowCrossNamespace });
  const global = reader.bool('enable-global-auth') ?? true;
  return own ?? (global ? globals.externalAuth : undefined);
}

function readHashBy(reader: SettingReader): HashSettings | undefined {
  const text = reader.text('upstream-hash-by');
  const subset = reader.bool('upstream-hash-by-subset') ?? false;
  const size = reader.integer('upstream-hash-by-subset-size') ?? 3;
  if (text === undefined) return undefined;
  const parsed = parseTemplate(text);
  if (parsed.kind === 'template') return { key: parsed.template, subset: subset ? Math.max(1, size) : 1 };
  return reader.ignored('upstream-hash-by', `the variable $${parsed.variable} is not known`);
}

function readSatisfy(reader: SettingReader): 'all' | 'any' {
  const value = reader.guard('satisfy') ?? 'all';
  if (value === 'all' || value === 'any') return value;
  reader.denies('satisfy', `${JSON.stringify(value)} is neither all nor any`);
  return 'all';
}

/** Those of the ConfigMap hold whether annotations may have snippets or not. */
function readSnippets(reader: SettingReader, globals: GlobalSettings): readonly Directive[] | undefined {
  const allowed = globals.policy.allowSnippets;
  const directives = ['server-snippet', 'configuration-snippet'].flatMap((name) => {
    const text = reader.lines(name);
    if (text === undefined) return [];
    if (!allowed) {
      // As in ingress-nginx; annotations-risk-level, which is High unless changed, is what shuts the location.
      reader.ignored(
        name,
        'snippets are off; allow-snippet-annotations in the ConfigMap allows the directives that are known',
      );
      return [];
    }
    const parsed = parseSnippet(text);
    if (parsed.kind === 'directives') return parsed.directives;
    reader.denies(name, parsed.reason);
    return [];
  });
  const all = [...globals.serverSnippet, ...directives, ...globals.locationSnippet];
  return all.length > 0 ? all : undefined;
}

function readAliases(reader: SettingReader): readonly string[] {
  return (reader.list('server-alias') ?? []).flatMap((word) => {
    const host = word.toLowerCase();
    if (/^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(host)) return [host];
    reader.ignored(
      'server-alias',
      `${JSON.stringify(word)} is no host name; regular expressions are not supported there`,
    );
    return [];
  });
}
