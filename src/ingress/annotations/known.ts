// Annotations of ingress-nginx that this version does not carry out, by what follows from that.

/** Each of these guards something: without it the location would be an open door, so it answers 503. */
const GUARDS =
  /^(auth-.*|.*-source-range|.*modsecurity.*|enable-owasp-.*|satisfy|.*-snippet|proxy-ssl-.*|secure-verify-ca-secret|global-rate-limit.*|block-.*|.*denylist.*|.*allowlist.*|.*whitelist.*)$/;

/** Harmless beside the annotations that they belong to. */
const HARMLESS = /^auth-keepalive.*$/;

/** Takes no part, and nothing is missed: switches for nginx' own machinery. */
const NO_EFFECT =
  /^(proxy-(request-)?buffering|proxy-buffer-size|proxy-buffers-number|proxy-busy-buffers-size|proxy-max-temp-file-size|client-body-buffer-size|enable-rewrite-log|http2-push-preload)$/;

export type UnknownKind = 'guard' | 'unsupported' | 'no-effect';

/** Values that switch a guard off, so that nothing is missing without it. */
export function unknownKind(name: string, value: string): UnknownKind {
  if (NO_EFFECT.test(name)) return 'no-effect';
  if (HARMLESS.test(name)) return 'unsupported';
  if (!GUARDS.test(name)) return 'unsupported';
  const off = /^(false|off|f|0|)$/i.test(value.trim());
  return off ? 'no-effect' : 'guard';
}
