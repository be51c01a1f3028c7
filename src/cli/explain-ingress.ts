// `explain ingress URL`, for people.

import type { IngressExplanation } from '../ingress/explain.ts';

/** Of a folder: the command that would answer so, and what the other one would answer. */
export interface ExplainedAs {
  readonly command: string;
  readonly other: { readonly command: string; readonly answer: string; readonly status: number | undefined };
}

export function ingressExplanationText(explanation: IngressExplanation & { readonly as?: ExplainedAs }): string {
  const { url, path, host, certificate, location, passedOver, annotations, backend, canary, checks, answer } =
    explanation;
  const lines = [
    url,
    `  host        ${host.name === '' ? 'none given' : host.name}: ${host.why}`,
    ...(host.ingresses.length > 0
      ? [`  named by    ${host.ingresses.join(', ')}${host.ingresses.length > 1 ? ' (oldest first)' : ''}`]
      : []),
    ...(certificate === undefined ? [] : [`  certificate ${certificate}`]),
    `  path        ${path ?? 'malformed'}`,
    ...(location
      ? [`  rule        ${location.rule} of ${location.ingress}`, `              ${location.why}`]
      : ['  rule        none']),
    ...passedOver.map(({ rule, why }) => `  passed over ${rule}: ${why}`),
    ...annotations.map(({ name, value, effect }) => `  annotation  ${name}: ${JSON.stringify(value)}: ${effect}`),
    ...(backend ? backendLines('backend', backend) : []),
    ...(canary ? [...backendLines('canary', canary), `              when ${canary.when}`] : []),
    ...checks.map((check) => `  before it   ${check}`),
    `  answer      ${answer}`,
    ...(explanation.as ? [`  that of     ${asText(explanation.as, answer)}`] : []),
  ];
  return `${lines.join('\n')}\n`;
}

function asText({ command, other }: ExplainedAs, answer: string): string {
  if (other.answer === answer) return `fairlead ${command}; fairlead ${other.command} gives the same`;
  return `fairlead ${command}. fairlead ${other.command} redirects ${other.command === 'up' ? 'nothing' : 'a host with a certificate'} to HTTPS unless --ssl-redirect says otherwise, and would give: ${other.answer} (--as ${other.command})`;
}

function backendLines(
  title: string,
  { backend, how, endpoints, unavailable }: NonNullable<IngressExplanation['backend']>,
): readonly string[] {
  return [
    `  ${title.padEnd(11)} ${backend} (${how})`,
    ...(unavailable === undefined ? [] : [`              ${unavailable}`]),
    ...endpoints.map((endpoint) => `              ${endpoint}`),
  ];
}
