// `explain ingress URL`, for people.

import type { IngressExplanation } from '../ingress/explain.ts';

export function ingressExplanationText(explanation: IngressExplanation): string {
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
  ];
  return `${lines.join('\n')}\n`;
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
