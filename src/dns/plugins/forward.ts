// forward: names are asked of upstream servers.

import type { BlockDraft, PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, notBuilt, unknownOption, zones } from '../corefile/words.ts';
import { createForwarder, DEFAULT_FORWARD, type ForwardRules } from '../forward.ts';
import { coded } from '../answers.ts';
import type { Handler } from '../handler.ts';
import { parseResolvConf } from '../resolv-conf.ts';
import { parseIp } from '../../lib/ip.ts';
import { certificateMistake } from '../upstream-tls.ts';
import { parseUpstream, upstreamText, type UpstreamServer } from '../upstream.ts';
import { parseName, ROOT } from '../wire/name.ts';
import { RCODE, rcodeNumber } from '../wire/types.ts';

const MOST_UPSTREAMS = 15;
const OPTIONS = [
  'except',
  'force_tcp',
  'prefer_udp',
  'policy',
  'max_fails',
  'health_check',
  'max_concurrent',
  'expire',
  'max_age',
  'max_idle_conns',
  'next',
  'next_on_nodata',
  'failover',
  'failfast_all_unhealthy_upstreams',
  'max_connect_attempts',
  'read_timeout',
  'tls',
  'tls_servername',
  'doh_method',
  'source_address',
  'resolver',
];

type Draft = { -readonly [K in keyof ForwardRules]: ForwardRules[K] };

export const forward: PluginDefinition = {
  name: 'forward',
  once: false,
  setup: async ({ args, options, place }, draft) => {
    count(args, place, 'forward', 2, Infinity);
    const [fromText = '', ...to] = args;
    const [from = ROOT] = zones([fromText], place, []);
    const servers = await upstreams(to, place, draft, resolversOf(options));
    const rules: Draft = { ...DEFAULT_FORWARD, from, servers };
    for (const option of options) await readOption(option, rules, draft);
    draft.upstreams.push(...rules.servers.map(upstreamText));
    // Other classes are passed on as they are.
    draft.otherClasses = true;
    const position = draft.handlers.get('forward')?.length ?? 0;
    draft.answer('forward', (services) => {
      const hasNext = position + 1 < (draft.handlers.get('forward')?.length ?? 0);
      const own = rules.servers.filter((server) => services.isOurselves(server));
      if (own.length > 0)
        services.log.error('an upstream DNS server is this server itself, so it is not asked; name another one', {
          upstream: own.map(upstreamText).join(','),
          at: `${place.file}:${place.line}`,
        });
      const others = rules.servers.filter((server) => !own.includes(server));
      if (others.length === 0) return nobodyToAsk();
      const maxConcurrent = Math.ceil(rules.maxConcurrent / services.workers);
      const onReject = (): void => services.dnsMetrics.forwardRejected();
      return createForwarder({ ...rules, ...services, servers: others, maxConcurrent, hasNext, onReject });
    });
  },
};

/** All upstreams are this server itself: asking them would go round for ever. */
function nobodyToAsk(): Handler {
  return { name: 'forward', handle: () => coded(RCODE.REFUSED) };
}

async function upstreams(
  to: readonly string[],
  place: Place,
  draft: BlockDraft,
  resolvers: readonly UpstreamServer[],
): Promise<readonly UpstreamServer[]> {
  const servers: UpstreamServer[] = [];
  for (const word of to) {
    const server = parseUpstream(word);
    if (server) {
      servers.push(server);
      continue;
    }
    if (/^[a-z0-9]+:\/\//.test(word) && !/^(?:dns|tls|https):\/\//.test(word))
      throw notBuilt('forward', word.replace(/\/\/.*/, '//'), place);
    const path = draft.doors.pathOf(word, place);
    const text = await draft.doors.readText(path);
    if (text === undefined) servers.push(...(await resolved(word, place, draft, resolvers)));
    else {
      const found = parseResolvConf(text);
      if (found.unusable.length > 0)
        draft.doors.warn(`${path}: these nameservers are no addresses that can be asked: ${found.unusable.join(', ')}`);
      servers.push(...found.servers);
    }
  }
  if (servers.length === 0) throw new CorefileError(place, `${to.join(' ')} names no upstream server`);
  if (servers.length > MOST_UPSTREAMS)
    throw new CorefileError(place, `forward takes ${MOST_UPSTREAMS} upstream servers at most, not ${servers.length}`);
  return servers;
}

/** The servers that `resolver` names; those of the system when none is. */
function resolversOf(options: readonly Option[]): readonly UpstreamServer[] {
  const lines = options.filter(({ name }) => name === 'resolver');
  return lines.flatMap(({ args, place }) => {
    count(args, place, 'resolver', 1, Infinity);
    return args.map((word) => {
      const server = parseUpstream(word);
      if (server && server.scheme === undefined) return server;
      throw new CorefileError(place, `"${word}" is no address of a resolver`);
    });
  });
}

/** Servers that are named by a host name, which is looked up once, when the Corefile is read. */
async function resolved(
  word: string,
  place: Place,
  draft: BlockDraft,
  resolvers: readonly UpstreamServer[],
): Promise<readonly UpstreamServer[]> {
  const mistake = (why: string) =>
    new CorefileError(place, `"${word}" is no address to forward to, no file such as /etc/resolv.conf, ${why}`);
  const [, scheme = '', host = '', port = ''] = /^([a-z]+:\/\/)?([^:/]+)(:[0-9]+)?$/.exec(word) ?? [];
  const name = parseName(host);
  if (!name || !/^[A-Za-z0-9_.-]+[.][A-Za-z0-9_.-]*$/.test(host)) throw mistake('and no host name');
  const system = resolvers.length > 0 ? undefined : await draft.doors.readText('/etc/resolv.conf');
  const servers = resolvers.length > 0 ? resolvers : parseResolvConf(system ?? '').servers;
  const ips = await draft.doors.resolve(name, servers);
  const found = ips.flatMap((ip) => parseUpstream(`${scheme}${ip.includes(':') ? `[${ip}]` : ip}${port}`) ?? []);
  if (found.length === 0) throw mistake('and no host name that resolves');
  return scheme === '' ? found : found.map((server) => ({ ...server, serverName: host }));
}

async function readOption({ name, args, place }: Option, rules: Draft, draft: BlockDraft): Promise<void> {
  const first = args[0] ?? '';
  switch (name) {
    case 'except':
      count(args, place, name, 1, Infinity);
      rules.except = [...rules.except, ...zones(args, place, [])];
      return;
    case 'force_tcp':
      count(args, place, name, 0);
      rules.transport = 'tcp';
      return;
    case 'prefer_udp':
      count(args, place, name, 0);
      if (rules.transport !== 'tcp') rules.transport = 'udp';
      return;
    case 'policy':
      if (first !== 'random' && first !== 'round_robin' && first !== 'sequential')
        throw new CorefileError(place, `policy is random, round_robin or sequential, not "${args.join(' ')}"`);
      rules.policy = first;
      return;
    case 'max_fails':
      count(args, place, name, 1);
      rules.maxFails = integer(first, place, name, 0, 1_000_000);
      return;
    case 'max_concurrent':
      count(args, place, name, 1);
      rules.maxConcurrent = integer(first, place, name, 0, 1_000_000_000) || Infinity;
      return;
    case 'max_connect_attempts':
      count(args, place, name, 1);
      rules.maxAttempts = integer(first, place, name, 0, 1_000_000);
      return;
    case 'health_check':
      rules.probe = healthCheck(args, place);
      return;
    case 'next':
      rules.next = codes(name, args, place);
      return;
    case 'next_on_nodata':
      count(args, place, name, 0);
      rules.nextOnNodata = true;
      return;
    case 'failover':
      rules.failover = codes(name, args, place);
      if (rules.failover.has(RCODE.NOERROR))
        throw new CorefileError(place, 'failover: NOERROR is an answer; failures such as SERVFAIL were expected');
      return;
    case 'failfast_all_unhealthy_upstreams':
      count(args, place, name, 0);
      rules.failFast = true;
      return;
    case 'read_timeout':
      count(args, place, name, 1);
      rules.readTimeoutMs = duration(first, place);
      if (rules.readTimeoutMs <= 0) throw new CorefileError(place, 'read_timeout is longer than nothing');
      return;
    // Looked at before the servers are.
    case 'resolver':
      return;
    default:
      await readLinkOption({ name, args, place }, rules, draft);
  }
}

/** How connections to the servers are made and kept. */
async function readLinkOption({ name, args, place }: Option, rules: Draft, draft: BlockDraft): Promise<void> {
  const first = args[0] ?? '';
  if (LINK_OPTIONS.has(name)) count(args, place, name, 1);
  switch (name) {
    case 'expire':
      rules.link = { ...rules.link, expireMs: duration(first, place) };
      return;
    case 'max_age':
      rules.link = { ...rules.link, maxAgeMs: duration(first, place) };
      return;
    case 'max_idle_conns':
      rules.link = { ...rules.link, maxIdle: integer(first, place, name, 0, 1_000_000) };
      return;
    case 'doh_method':
      if (first !== 'GET' && first !== 'POST')
        throw new CorefileError(place, `doh_method is GET or POST, not "${first}"`);
      rules.link = { ...rules.link, dohMethod: first };
      return;
    case 'source_address': {
      const source = parseIp(first);
      if (!source) throw new CorefileError(place, `source_address takes an address, not "${first}"`);
      rules.link = { ...rules.link, source };
      return;
    }
    case 'tls':
      rules.link = { ...rules.link, tls: await tlsFiles(args, place, draft) };
      return;
    case 'tls_servername':
      if (rules.servers.some(({ serverName }) => serverName !== undefined))
        throw new CorefileError(place, 'tls_servername and a name behind % of an address exclude each other');
      rules.servers = rules.servers.map((server) =>
        server.scheme === undefined ? server : { ...server, serverName: first },
      );
      return;
    default:
      throw unknownOption('forward', name, place, OPTIONS);
  }
}

const LINK_OPTIONS: ReadonlySet<string> = new Set([
  'expire',
  'max_age',
  'max_idle_conns',
  'doh_method',
  'source_address',
  'tls_servername',
]);

/** `tls [CERT KEY] [CA]` */
async function tlsFiles(
  args: readonly string[],
  place: Place,
  draft: BlockDraft,
): Promise<ForwardRules['link']['tls']> {
  count(args, place, 'tls', 0, 3);
  const read = async (word: string): Promise<string> => {
    const path = draft.doors.pathOf(word, place);
    const text = await draft.doors.readText(path);
    if (text === undefined) throw new CorefileError(place, `tls: the file ${path} cannot be read`);
    return text;
  };
  const [cert, key] = args.length >= 2 ? [args[0], args[1]] : [];
  const ca = args.length === 1 ? args[0] : args[2];
  const found = {
    ...(cert === undefined || key === undefined ? {} : { cert: await read(cert), key: await read(key) }),
    ...(ca === undefined ? {} : { ca: await read(ca) }),
  };
  const wrong = await certificateMistake(found);
  if (wrong !== undefined) throw new CorefileError(place, `tls ${args.join(' ')}: ${wrong}`);
  return found;
}

function healthCheck(args: readonly string[], place: Place): ForwardRules['probe'] {
  const [interval, ...rest] = args;
  if (interval === undefined) throw new CorefileError(place, 'health_check takes a duration');
  let recursion = true;
  let name = ROOT;
  for (let i = 0; i < rest.length; i++) {
    if (rest[i] === 'no_rec') recursion = false;
    else if (rest[i] === 'domain') {
      const domain = parseName(rest[++i] ?? '');
      if (!domain) throw new CorefileError(place, 'domain takes a name');
      name = domain;
    } else throw new CorefileError(place, `health_check takes no_rec and domain NAME, not "${rest[i]}"`);
  }
  return { intervalMs: Math.max(1, duration(interval, place)), recursion, name };
}

function codes(name: string, args: readonly string[], place: Place): ReadonlySet<number> {
  count(args, place, name, 1, Infinity);
  return new Set(
    args.map((word) => {
      const code = rcodeNumber(word);
      if (code === undefined) throw new CorefileError(place, `"${word}" is no response code such as NXDOMAIN`);
      return code;
    }),
  );
}
