// Who may enter a location: address lists, passwords, another service's verdict, and how they go together (`satisfy`).

import type { ConfigMapRecord } from '../model/records.ts';
import { mayEnter } from './annotations/access.ts';
import type { ExternalAuthSettings } from './annotations/external-auth.ts';
import { headerTemplates, renderHeaders, type HeaderTemplates } from './annotations/header-templates.ts';
import type { IngressSettings } from './annotations/settings.ts';
import type { TemplateRequest } from './annotations/template.ts';
import { authQuestion } from './auth-request.ts';
import type { Answer } from './http/answer.ts';
import type { Location } from './host-routes.ts';
import type { AuthQuestion, Gate, Passed } from './http/forward.ts';
import type { EndpointPool } from './http/upstream.ts';
import type { OuterService } from './endpoint-pools.ts';
import { PasswordDoor } from './password-door.ts';
import type { RouteTable } from './route-table.ts';
import { VerdictCache } from './verdict-cache.ts';

export type Entry =
  | { readonly kind: 'refused'; readonly answer: Answer }
  /** What has to be waited for before the request goes on; without either of the two it may go on at once. */
  | {
      readonly kind: 'open';
      readonly gate?: Gate;
      readonly question?: AuthQuestion;
      readonly passed?: Passed;
    };

export interface DoorsOptions {
  readonly now: () => number;
  readonly outerPool: (settings: OuterService) => EndpointPool;
  readonly nonceKey: Buffer;
}

export const SHUT: Answer = {
  status: 503,
  reason: 'this path is shut because its configuration cannot be carried out',
};
const FORBIDDEN: Answer = { status: 403, reason: 'this address may not enter' };

export class Doors {
  readonly #options: DoorsOptions;
  readonly #passwords: PasswordDoor;
  readonly #verdicts = new VerdictCache();
  readonly #headers = new WeakMap<ConfigMapRecord, HeaderTemplates>();

  constructor(options: DoorsOptions) {
    this.#options = options;
    this.#passwords = new PasswordDoor(options.nonceKey);
  }

  stop(): Promise<void> {
    return this.#passwords.stop();
  }

  /** `location` is undefined where no rule matches. */
  enter(
    table: RouteTable,
    settings: IngressSettings,
    location: Pick<Location, 'host' | 'path'> | undefined,
    request: TemplateRequest,
  ): Entry {
    const path = location?.path;
    const noAuth = path !== undefined && table.selection.globals?.noAuth.some((start) => path.startsWith(start));
    const externalAuth = noAuth ? undefined : settings.externalAuth;
    const basicAuth = noAuth ? undefined : settings.basicAuth;
    const { access, satisfy, transfer } = settings;
    const entered = mayEnter(access, request.remoteAddress);
    const any = satisfy === 'any' && (basicAuth !== undefined || externalAuth !== undefined);
    if (!entered && !any) return { kind: 'refused', answer: FORBIDDEN };
    // nginx: an address list has an opinion when it names the address; a deny list alone lets nobody in by itself.
    if (any && entered && access.allow) return { kind: 'open' };
    const password = basicAuth && this.#passwords.check(table, basicAuth, request, this.#options.now());
    if (password && password.kind === 'refused' && !(any && externalAuth)) return password;
    if (any && password?.kind === 'open') return password;
    const gate = password?.kind === 'wait' ? gateOf(password.verify, any, externalAuth !== undefined) : undefined;
    if (!externalAuth) return { kind: 'open', ...(gate ? { gate } : {}) };
    const lines = this.#headersFor(table, externalAuth, request);
    if (lines === undefined) return { kind: 'refused', answer: SHUT };
    const question = authQuestion(externalAuth, request, this.#options.outerPool(externalAuth), transfer, lines);
    return this.#answered(externalAuth, question, request, gate, location);
  }

  /** With the verdict that is remembered, if there is one. */
  #answered(
    settings: ExternalAuthSettings,
    question: AuthQuestion,
    request: TemplateRequest,
    gate: Gate | undefined,
    location: Pick<Location, 'host' | 'path'> | undefined,
  ): Entry {
    const waits = gate ? { gate } : {};
    if (!settings.cacheKey) return { kind: 'open', ...waits, question };
    // As in ingress-nginx each location has verdicts of its own.
    const place = `${location?.host ?? ''}${location?.path ?? ''}`;
    const key = `${place} ${settings.authority}${settings.target.text} ${settings.cacheKey.render(request)}`;
    const now = this.#options.now();
    const known = this.#verdicts.get(key, now);
    if (known) {
      const judged = question.judge(known);
      if ('status' in judged) return gate ? { kind: 'open', gate, question } : { kind: 'refused', answer: judged };
      return { kind: 'open', ...waits, passed: judged };
    }
    const remembering: AuthQuestion = {
      ...question,
      judge: (verdict) => {
        const ms = settings.cacheFor.get(verdict.status);
        if (ms !== undefined) this.#verdicts.set(key, verdict, this.#options.now() + ms);
        return question.judge(verdict);
      },
    };
    return { kind: 'open', ...waits, question: remembering };
  }

  /** Undefined: the ConfigMap of auth-proxy-set-headers is not there, or cannot be used. */
  #headersFor(table: RouteTable, settings: ExternalAuthSettings, request: TemplateRequest): string | undefined {
    if (settings.setHeaders === undefined) return '';
    const map = table.snapshot.configMaps.get(settings.setHeaders);
    if (!map) return undefined;
    let templates = this.#headers.get(map);
    if (!templates) this.#headers.set(map, (templates = headerTemplates(map)));
    return templates.kind === 'headers' ? renderHeaders(templates, request) : undefined;
  }
}

/** What a password that has to be waited for means for the request. */
function gateOf(verify: (done: (refusal: Answer | undefined) => void) => void, any: boolean, asks: boolean): Gate {
  return (done) =>
    verify((refusal) => {
      if (!refusal) done(any ? { kind: 'open' } : { kind: 'next' });
      else done(any && asks ? { kind: 'next' } : { kind: 'refused', answer: refusal });
    });
}
