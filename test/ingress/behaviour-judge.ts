// Whether answers are as a fact says.

import type { IncomingHttpHeaders } from 'node:http';
import { isDeepStrictEqual } from 'node:util';
import type { FactExpectation } from './behaviour-fact.ts';

export interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly seen: {
    readonly service?: string;
    readonly pod?: string;
    readonly method?: string;
    readonly url?: string;
    readonly headers?: Readonly<Record<string, string>>;
  };
  /** Common names of the certificate that was shown. */
  readonly subject?: string | undefined;
  readonly issuer?: string | undefined;
}

/** What is not as the fact says. */
export function judge(expected: FactExpectation, all: readonly Got[]): readonly string[] {
  const got = all[0];
  if (!got) return ['no answer'];
  const problems: string[] = [];
  const check = (what: string, holds: boolean, value: unknown): void => {
    if (!holds) problems.push(`${what}: ${JSON.stringify(value)}`);
  };
  const field = (name: string): string => {
    const value = got.headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(', ') : (value ?? '');
  };
  const { status, location, locationContains, upstream, tls, statusCounts, atLeastOne, grpcStatus } = expected;
  if (status !== undefined)
    check(
      `status ${status}`,
      all.every((each) => fits(status, each.status)),
      all.map((each) => each.status),
    );
  if (location !== undefined) check(`location ${location}`, field('location') === location, field('location'));
  if (locationContains !== undefined)
    check(`location with ${locationContains}`, field('location').includes(locationContains), field('location'));
  for (const [name, value] of Object.entries(expected.headers ?? {}))
    check(`${name}: ${value}`, field(name) === value, field(name));
  for (const [name, words] of Object.entries(expected.headersContain ?? {})) {
    for (const word of [words].flat()) {
      check(
        `${name} with ${word}`,
        word.includes('<now') || word.split('|').some((part) => field(name).includes(part)),
        field(name),
      );
    }
  }
  for (const [name, words] of Object.entries(expected.headersNotContain ?? {})) {
    for (const word of [words].flat()) check(`${name} without ${word}`, !field(name).includes(word), field(name));
  }
  for (const name of expected.absentHeaders ?? []) check(`no ${name}`, field(name) === '', field(name));
  for (const name of expected.presentHeaders ?? [])
    check(`a ${name}`, got.headers[name.toLowerCase()] !== undefined || name === 'Content-Length', got.headers);
  if (statusCounts) {
    const counted: Record<string, number> = {};
    for (const each of all) counted[each.status] = (counted[each.status] ?? 0) + 1;
    check(`statuses ${JSON.stringify(statusCounts)}`, isDeepStrictEqual(counted, { ...statusCounts }), counted);
  }
  if (atLeastOne !== undefined)
    check(
      `a ${atLeastOne}`,
      all.some((each) => each.status === atLeastOne),
      all.map((each) => each.status),
    );
  if (grpcStatus !== undefined) check(`grpc-status ${grpcStatus}`, field('grpc-status') === String(grpcStatus), got);
  if (tls?.issuerCN !== undefined) check(`issuer ${tls.issuerCN}`, got.issuer === tls.issuerCN, got.issuer);
  if (tls?.secret !== undefined) check(`certificate ${tls.secret}`, got.subject === tls.secret, got.subject);
  const { noCookie } = expected;
  if (noCookie !== undefined) {
    const cookies = got.headers['set-cookie'] ?? [];
    const found = cookies.filter((each) => typeof noCookie !== 'string' || each.startsWith(`${noCookie}=`));
    check('no cookie', found.length === 0, found);
  }
  const { distinctPods } = expected;
  if (distinctPods !== undefined) {
    const pods = new Set(all.map(({ seen }) => seen.pod));
    check(`${distinctPods} pods`, distinctPods === pods.size || (typeof distinctPods === 'string' && pods.size > 1), [
      ...pods,
    ]);
  }
  const { perPodCount, serviceShare } = expected;
  if (perPodCount !== undefined) {
    const counts = countBy(all, ({ seen }) => seen.pod ?? '');
    check(`${perPodCount} each`, counts.size > 1 && [...counts.values()].every((count) => count === perPodCount), [
      ...counts,
    ]);
  }
  for (const [name, share] of Object.entries(serviceShare ?? {})) {
    const part = (countBy(all, ({ seen }) => seen.service ?? '').get(name) ?? 0) / all.length;
    check(`${name} ${share}`, part >= Number(share.replace('>=', '')), part);
  }
  if (upstream) problems.push(...judgeUpstream(upstream, got));
  return problems;
}

function countBy(all: readonly Got[], key: (got: Got) => string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const each of all) counts.set(key(each), (counts.get(key(each)) ?? 0) + 1);
  return counts;
}

function judgeUpstream(expected: NonNullable<FactExpectation['upstream']>, { seen }: Got): readonly string[] {
  const headers = seen.headers ?? {};
  const differs = [
    expected.service !== undefined && expected.service !== seen.service
      ? [`service ${expected.service}: ${seen.service}`]
      : [],
    expected.method !== undefined && expected.method !== seen.method
      ? [`method ${expected.method}: ${seen.method}`]
      : [],
    expected.path !== undefined && expected.path !== seen.url ? [`path ${expected.path}: ${seen.url}`] : [],
    expected.host !== undefined && expected.host !== headers['host']
      ? [`host ${expected.host}: ${headers['host']}`]
      : [],
    ...Object.entries(expected.headers ?? {}).map(([name, value]) =>
      headers[name.toLowerCase()] === value || value.startsWith('<')
        ? []
        : [`upstream ${name}: ${value}: ${headers[name.toLowerCase()]}`],
    ),
    ...Object.entries(expected.headersNot ?? {}).map(([name, value]) =>
      headers[name.toLowerCase()] === value ? [`upstream ${name}: ${value}`] : [],
    ),
    ...(expected.absentHeaders ?? []).map((name) =>
      headers[name.toLowerCase()] === undefined ? [] : [`upstream has ${name}`],
    ),
  ];
  return differs.flat();
}

function fits(expected: number | string, status: number): boolean {
  if (typeof expected === 'number') return status === expected;
  if (expected.startsWith('>=')) return status >= Number(expected.slice(2));
  return expected
    .split('|')
    .some((part) => (part.endsWith('xx') ? String(status)[0] === part[0] : status === Number(part)));
}
