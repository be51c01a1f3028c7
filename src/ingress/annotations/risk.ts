// How dangerous ingress-nginx holds each annotation to be, and the words that a controller may forbid in values.

import type { SettingReader } from './reader.ts';

export const RISKS = ['Low', 'Medium', 'High', 'Critical'] as const;
export type Risk = (typeof RISKS)[number];

const CRITICAL = /^(auth|configuration|modsecurity|server|stream)-snippet$/;
const HIGH =
  /^(server-alias|auth-tls-error-page|auth-tls-match-cn|proxy-ssl-name|auth-url|auth-signin|upstream-hash-by|mirror-target|mirror-host|modsecurity-transaction-id)$/;
const MEDIUM =
  /^(rewrite-target|app-root|permanent-redirect|temporal-redirect|preserve-trailing-slash|x-forwarded-prefix|custom-http-errors|proxy-redirect-(from|to)|proxy-cookie-(domain|path)|custom-headers|force-ssl-redirect|proxy-ssl-secret|proxy-ssl-ciphers|proxy-body-size|proxy-next-upstream|auth-secret|auth-realm|auth-signin-redirect-param|auth-response-headers|auth-request-redirect|auth-cache-key|auth-cache-duration|auth-proxy-set-headers|(white|allow)list-source-range|denylist-source-range|cors-.*(origin|methods|headers)|affinity-mode|session-cookie-(name|path|domain|expires|max-age)|canary-by-.*|opentelemetry-operation-name|fastcgi-.*)$/;

function riskOf(name: string): Risk {
  if (CRITICAL.test(name)) return 'Critical';
  if (HIGH.test(name)) return 'High';
  return MEDIUM.test(name) ? 'Medium' : 'Low';
}

export interface AnnotationPolicy {
  readonly maxRisk: Risk;
  readonly forbiddenWords: readonly string[];
  readonly allowSnippets: boolean;
}

/** `annotations-risk-level` and `annotation-value-word-blocklist`: what goes beyond them shuts the Ingress. */
export function checkPolicy(
  reader: SettingReader,
  policy: AnnotationPolicy,
  annotations: Iterable<readonly [string, string]>,
): void {
  for (const [name, value] of annotations) {
    const risk = riskOf(name);
    if (RISKS.indexOf(risk) > RISKS.indexOf(policy.maxRisk)) {
      reader.denies(name, `its risk is ${risk}, above annotations-risk-level ${policy.maxRisk}`);
    }
    const word = policy.forbiddenWords.find((each) => value.includes(each));
    if (word !== undefined) {
      reader.denies(name, `its value holds ${JSON.stringify(word)}, which annotation-value-word-blocklist forbids`);
    }
  }
}
