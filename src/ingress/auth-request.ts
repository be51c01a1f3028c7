// The question that external authentication asks for a request, and what its verdict means (reference: ingress-nginx' auth-url).

import { escapeUri, type TemplateRequest } from './annotations/template.ts';
import type { ExternalAuthSettings } from './annotations/external-auth.ts';
import type { Answer } from './http/answer.ts';
import type { AuthQuestion, Passed, Verdict } from './http/forward.ts';
import { requestIdLine } from './http/request-id.ts';
import type { EndpointPool } from './http/upstream.ts';

/** Fields that the question itself sets: what the client says there must not be believed; and those that speak of a body. */
const OWN =
  /^(?:x-original-(?:url|uri|method)|x-sent-from|x-auth-request-redirect|content-(?:type|encoding)|upgrade):[^\r\n]*\r\n/gim;

/** `settings` of the location; `request` is read now, so the question can be asked later. */
export function authQuestion(
  settings: ExternalAuthSettings,
  request: TemplateRequest,
  pool: EndpointPool,
  times: { readonly connectMs: number; readonly readMs: number },
  ownLines = '',
): AuthQuestion {
  const scheme = request.secure ? 'https' : 'http';
  const uri = request.path + request.query;
  const method = settings.method ?? 'GET';
  const redirect = settings.requestRedirect?.render(request) ?? uri;
  const original =
    `X-Original-URL: ${scheme}://${request.host}${uri}\r\nX-Original-Method: ${request.method}\r\n` +
    `X-Sent-From: nginx-ingress-controller\r\nX-Real-IP: ${request.remoteAddress}\r\n` +
    `X-Forwarded-For: ${request.remoteAddress}\r\nX-Auth-Request-Redirect: ${oneLine(redirect)}\r\n` +
    (settings.method === undefined ? '' : `X-Original-URI: ${uri}\r\nX-Scheme: ${scheme}\r\n`) +
    (/^(POST|PUT|PATCH)$/.test(method) ? 'Content-Length: 0\r\n' : '');
  const line = `${method} ${oneLine(settings.target.render(request))} HTTP/1.1\r\nHost: ${settings.authority}\r\n`;
  const signin = settings.signin && signinUrl(settings, settings.signin.render(request), request);
  return {
    pool,
    method,
    connectMs: times.connectMs,
    readMs: times.readMs,
    wanted: settings.responseHeaders.map((name) => name.toLowerCase()),
    text: (kept, requestId) => `${line}${kept.replace(OWN, '')}${original}${ownLines}${requestIdLine(requestId)}\r\n`,
    judge: (verdict) => judge(settings, verdict, signin),
  };
}

function signinUrl(settings: ExternalAuthSettings, url: string, request: TemplateRequest): string {
  const parameter = settings.signinParameter;
  const query = url.indexOf('?');
  const given = query >= 0 && `&${url.slice(query + 1)}`.includes(`&${parameter}=`);
  if (given) return url;
  const origin = `${request.secure ? 'https' : 'http'}://${request.host}`;
  return `${url}${query < 0 ? '?' : '&'}${parameter}=${origin}${escapeUri(request.path + request.query)}`;
}

/** 2xx lets pass, 401 and 403 are the answer, anything else and no verdict at all is 500: the door stays shut. */
function judge(settings: ExternalAuthSettings, verdict: Verdict, signin: string | undefined): Answer | Passed {
  const cookies = lines('Set-Cookie', verdict.fields.get('set-cookie'));
  if (verdict.status >= 200 && verdict.status < 300) {
    const fields = settings.responseHeaders.map((name) => lines(name, verdict.fields.get(name.toLowerCase())));
    return { kind: 'passed', fields: fields.join(''), cookies, cookiesAlways: settings.alwaysSetCookie };
  }
  if (verdict.status === 401) {
    if (signin !== undefined) {
      return { status: 302, reason: 'sign in to see this page', location: signin, fields: cookies };
    }
    const challenge = lines('WWW-Authenticate', verdict.fields.get('www-authenticate'));
    return { status: 401, reason: 'the request carries no valid credentials', fields: challenge + cookies };
  }
  if (verdict.status === 403) return { status: 403, reason: 'this request may not pass', fields: cookies };
  return { status: 500, reason: 'the service that decides on access gave no verdict' };
}

function lines(name: string, values: readonly string[] | undefined): string {
  return (values ?? []).map((value) => `${name}: ${value}\r\n`).join('');
}

/** Variables bring in what clients send: nothing of it may end the line. */
function oneLine(text: string): string {
  return text.replace(/[^\u0021-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed()));
}
