// What people know of ingress-nginx, and what the API's conformance suite asks for, as facts: objects, a request, what comes of it. Each is
// held against a running plane with real backends. `behaviour.json` has the facts; those that do not hold here stand below with the reason.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { admitIngress } from '../../src/ingress/admission.ts';
import type { IngressPlane } from '../../src/ingress/plane.ts';
import type { IngressNotice } from '../../src/ingress/notice.ts';
import type { RoutingFlags } from '../../src/ingress/routing-options.ts';
import type { IngressRecord } from '../../src/model/records.ts';
import { createLogger } from '../../src/observe/log.ts';
import type {
  EffectiveSettings,
  Fact,
  FactBackend,
  FactExpectation,
  FactIngress,
  FactRequest,
  Step,
} from './behaviour-fact.ts';
import { judge, type Got } from './behaviour-judge.ts';
import {
  PREFIX,
  ask,
  defaultCertificateOf,
  secretsOf,
  servicesOf,
  startAuth,
  startPods,
  type Pods,
} from './behaviour-world.ts';
import { httpPort, startPlane } from './plane.ts';
import { ingress, snapshot } from './world.ts';
import { eventually } from '../support/until.ts';

/** Facts that do not hold here, and why. */
const DEPARTS: Readonly<Record<string, string>> = {
  'nginx-blocklist-2':
    'the location is shut with 503, and its Ingress is not forgotten: 404 would let another location take the request',
  'nginx-proxy-12': 'backends are asked in HTTP/1.1',
};

const FACTS = JSON.parse(
  readFileSync(fileURLToPath(new URL('./behaviour.json', import.meta.url)), 'utf8')
    .replaceAll('httpbun.<ns>.svc.cluster.local:80', '<authsvc>')
    .replaceAll('<controller>', 'controller.example')
    .replaceAll('<ns>', 'default'),
) as readonly Fact[];

test.each(FACTS.filter(({ id }) => DEPARTS[id] === undefined))('$id: $title', async (fact) => {
  expect(await problemsOf(fact)).toEqual([]);
});

test.each(FACTS.filter(({ id }) => DEPARTS[id] !== undefined))('departs from $id: $title', async (fact) => {
  expect(await problemsOf(fact)).not.toEqual([]);
});

/** What is not as the fact says. */
async function problemsOf(fact: Fact): Promise<readonly string[]> {
  const lines: string[] = [];
  const notices: IngressNotice[] = [];
  const plane = await startPlane({
    https: { address: '127.0.0.1' as never, port: 0 },
    sslRedirect: true,
    watchIngressWithoutClass: fact.conformance === true,
    conformance: fact.conformance === true,
    configMap: 'system/settings',
    defaultCertificate: defaultCertificateOf(fact),
    log: createLogger({ format: 'json', verbosity: 0, now: Date.now, write: (line) => lines.push(line) }),
    tell: (notice) => void notices.push(notice),
    ...flagsOf(fact),
  });
  const pods = await startPods(fact);
  const auth = await startAuth();
  let { ingresses, config = {} } = fact;
  if (fact.conformance) config = { 'ssl-redirect': 'false', ...config };
  // What is reviewed is not there yet.
  const reviewed = fact.steps.some(({ request }) => request?.admissionReview !== undefined)
    ? ingresses.at(-1)
    : undefined;
  const apply = (): void =>
    plane.update(
      worldOf(fact, { ingresses: ingresses.filter((each) => each !== reviewed), config, auth: auth.address, pods }),
    );
  apply();
  const problems: string[] = [];
  let cookie = '';
  for (const { update, request, expect: expected } of fact.steps) {
    if (update) {
      ({ ingresses, config } = updated(ingresses, config, update));
      if (update.deleteService !== undefined) auth.stop();
      apply();
    }
    if (expected.effective) problems.push(...judgeEffective(plane, fact, expected.effective));
    if (expected.logContains !== undefined && !lines.join('').includes(expected.logContains))
      problems.push(`no line "${expected.logContains}"`);
    if (expected.events) problems.push(...judgeEvents(notices, fact, expected.events));
    if (reviewed) {
      problems.push(...judgeReview(plane, toRecord(reviewed, 99, auth.address), expected.allowed));
      continue;
    }
    if (!request) continue;
    const got = await askAll(plane, { ...request, ...withCookie(request, cookie) }, pods);
    problems.push(...judge(expected, got));
    if (expected.upstream?.attempts !== undefined && pods.counts.requests !== expected.upstream.attempts)
      problems.push(`${pods.counts.requests} attempts`);
    if (expected.capture?.cookie !== undefined) cookie = cookieNamed(expected.capture.cookie, got[0]);
  }
  return problems;
}

function judgeEvents(
  notices: readonly IngressNotice[],
  { ingresses }: Fact,
  { reason, present }: NonNullable<FactExpectation['events']>,
): readonly string[] {
  const key = `default/${ingresses[0]?.name}`;
  const told = notices.some((notice) => notice.about === 'Ingress' && notice.key === key && notice.reason === reason);
  return told === present ? [] : [`Events: ${notices.map((notice) => `${notice.key} ${notice.reason}`).join(', ')}`];
}

async function askAll(plane: IngressPlane, request: FactRequest, pods: Pods): Promise<readonly Got[]> {
  const port = request.scheme === 'https' ? (plane.addresses.https?.port ?? 0) : httpPort(plane);
  const got: Got[] = [];
  const { parallel } = request;
  if (parallel === undefined) {
    for (let i = 0; i < (request.repeat ?? 1); i++) got.push(await ask(port, request));
    return got;
  }
  const all = Array.from({ length: parallel }, async () => got.push(await ask(port, request)));
  await eventually('all there or answered', () => got.length + pods.held.length === parallel);
  for (const answer of pods.held.splice(0)) answer();
  await Promise.all(all);
  return got;
}

function withCookie({ cookie }: FactRequest, captured: string): Partial<FactRequest> {
  return cookie === undefined ? {} : { cookie: cookie.replace('<captured>', captured) };
}

function cookieNamed(name: string, got: Got | undefined): string {
  const line = got?.headers['set-cookie']?.find((each) => each.startsWith(`${name}=`)) ?? '';
  return line.slice(name.length + 1).split(';')[0] ?? '';
}

function updated(
  ingresses: Fact['ingresses'],
  config: Readonly<Record<string, string>>,
  { annotations, config: keys, pathType, swap }: NonNullable<Step['update']>,
): { readonly ingresses: Fact['ingresses']; readonly config: Readonly<Record<string, string>> } {
  const changed = ingresses.map((each, i): FactIngress => {
    const own = i === 0 && annotations ? { ...each, annotations: { ...each.annotations, ...annotations } } : each;
    if (swap !== undefined) return swapped(own);
    if (pathType === undefined) return own;
    const rules = own.rules?.map((rule) => ({
      ...rule,
      paths: (rule.paths ?? []).map((path) => ({ ...path, pathType })),
    }));
    return { ...own, rules: rules ?? [] };
  });
  return { ingresses: changed, config: { ...config, ...keys } };
}

const CLASS = 'kubernetes.io/ingress.class';

function swapped({ ingressClassName, annotations = {}, ...rest }: FactIngress): FactIngress {
  const { [CLASS]: annotated, ...others } = annotations;
  return {
    ...rest,
    annotations: ingressClassName === undefined ? others : { ...others, [CLASS]: ingressClassName },
    ...(annotated === undefined ? {} : { ingressClassName: annotated }),
  };
}

function judgeReview(plane: IngressPlane, record: IngressRecord, allowed: boolean | undefined): readonly string[] {
  if (!plane.table) return ['no table'];
  const { refusal } = admitIngress(record, plane.table, { deepInspect: true, validateAnnotations: true });
  return (refusal === undefined) === allowed ? [] : [`refusal: ${refusal}`];
}

/** What the annotations of the first Ingress have come to. */
function judgeEffective(plane: IngressPlane, { ingresses }: Fact, expected: EffectiveSettings): readonly string[] {
  const first = ingresses[0];
  const settings = plane.table?.settings.get(`default/${first?.name}`);
  if (!settings) return ['no settings'];
  const { errors, transfer, answerRewrite, mirror } = settings;
  const pair = (words: { readonly from: string; readonly to: string } | undefined): string | undefined =>
    words && `${words.from} ${words.to}`;
  const found: Readonly<Record<keyof EffectiveSettings, unknown>> = {
    intercept: [...(errors?.codes ?? [])],
    errorBackend: errors?.service ?? 'global default backend',
    bodySize: `${transfer.maxBody / 1024 ** 2}m`,
    cookieDomain: pair(answerRewrite?.cookieDomain),
    cookiePath: pair(answerRewrite?.cookiePath),
    httpVersion: '1.1',
    mirror: mirror && `${mirror.secure ? 'https' : 'http'}://${mirror.host}${mirror.target?.text ?? ''}`,
    mirrorBody: mirror?.body === false ? 'off' : 'on',
    // Taken, though the backend is not met by TLS: none of them is told of as without effect.
    proxySsl: settings.problems.some(({ name }) => name.startsWith('proxy-ssl-')) ? undefined : expected.proxySsl,
  };
  return (Object.keys(expected) as (keyof EffectiveSettings)[]).flatMap((key) =>
    JSON.stringify(expected[key]) === JSON.stringify(found[key]) ? [] : [`${key}: ${JSON.stringify(found[key])}`],
  );
}

function flagsOf({ flags = [] }: Fact): RoutingFlags {
  const value = (name: string): string | undefined =>
    flags.find((flag) => flag.startsWith(`--${name}=`))?.split('=')[1];
  const ingressClass = value('ingress-class');
  const controllerClass = value('controller-class');
  return {
    ...(ingressClass === undefined ? {} : { ingressClass }),
    ...(controllerClass === undefined ? {} : { controllerClass }),
    ...(value('https-port') === undefined ? {} : { toldHttpsPort: 443 }),
    disableCatchAll: value('disable-catch-all') === 'true',
  };
}

function worldOf(
  fact: Fact,
  {
    ingresses,
    config,
    auth,
    pods,
  }: {
    readonly ingresses: Fact['ingresses'];
    readonly config: Readonly<Record<string, string>>;
    readonly auth: string;
    readonly pods: Pods;
  },
): ReturnType<typeof snapshot> {
  const controller = flagsOf(fact).controllerClass ?? 'k8s.io/ingress-nginx';
  return snapshot({
    ingresses: ingresses.map((each, i) => toRecord(each, i, auth)),
    services: servicesOf(fact, pods),
    secrets: secrets.get(fact) ?? secrets.set(fact, secretsOf(fact)).get(fact) ?? [],
    classes: [
      { name: 'nginx', controller: 'k8s.io/ingress-nginx', isDefault: false },
      { name: 'test-new-ingress-class', controller, isDefault: false },
    ],
    configMaps: [
      {
        namespace: 'system',
        name: 'settings',
        data: new Map(Object.entries(config).map(([key, value]) => [key, value.replaceAll('<authsvc>', auth)])),
      },
    ],
  });
}

/** Made once: a change of something else is no change of a certificate. */
const secrets = new WeakMap<Fact, ReturnType<typeof secretsOf>>();

function toRecord(
  { name, ingressClassName, annotations = {}, defaultBackend, rules = [], tls = [] }: FactIngress,
  age: number,
  auth: string,
): IngressRecord {
  const backend = ({ service: to = 'echo', port = 80 }: FactBackend): { service: string; port: number | string } => ({
    service: to,
    port,
  });
  const own = Object.entries(annotations).filter(([key]) => key.startsWith(PREFIX));
  const classAnnotation = annotations[CLASS];
  return ingress({
    name,
    createdAt: age + 1,
    ...(ingressClassName === undefined ? {} : { className: ingressClassName }),
    ...(classAnnotation === undefined ? {} : { classAnnotation }),
    annotations: Object.fromEntries(
      own.map(([key, value]) => [key.slice(PREFIX.length), value.replaceAll('<authsvc>', auth)]),
    ),
    ...(defaultBackend ? { defaultBackend: backend(defaultBackend) } : {}),
    rules: rules.map(({ host, paths = [] }) => ({
      ...(host === undefined || host === '' ? {} : { host: host.toLowerCase() }),
      paths: paths.map((each) => ({ path: each.path ?? '/', pathType: each.pathType ?? 'Prefix', ...backend(each) })),
    })),
    tls: tls.map(({ hosts = [], secretName }) => ({ hosts, secretName })),
  });
}
