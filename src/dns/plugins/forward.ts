// forward: names are asked of upstream servers.

import type { BlockDraft, PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Option } from '../corefile/parse.ts';
import { count, duration, integer, notBuilt, unknownOption, zones } from '../corefile/words.ts';
import { createForwarder, DEFAULT_FORWARD, type ForwardRules } from '../forward.ts';
import { coded } from '../answers.ts';
import type { Handler } from '../handler.ts';
import { parseResolvConf } from '../resolv-conf.ts';
import { parseUpstream, upstreamText, type UpstreamServer } from '../upstream.ts';
import { parseName, ROOT } from '../wire/name.ts';
import { RCODE, rcodeNumber } from '../wire/types.ts';

const MOST_UPSTREAMS = 15;
const NOT_BUILT: ReadonlySet<string> = new Set([
  'tls',
  'tls_servername',
  'doh_method',
  'source_address',
  'resolver',
  'max_connect_attempts',
  'failfast_all_unhealthy_upstreams',
  'next_on_nodata',
  'read_timeout',
]);
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
  'failover',
];

type Draft = { -readonly [K in keyof ForwardRules]: ForwardRules[K] };

export const forward: PluginDefinition = {
  name: 'forward',
  once: false,
  setup: async ({ args, options, place }, draft) => {
    count(args, place, 'forward', 2, Infinity);
    const [fromText = '', ...to] = args;
    const [from = ROOT] = zones([fromText], place, []);
    const rules: Draft = { ...DEFAULT_FORWARD, from, servers: await upstreams(to, place, draft) };
    for (const option of options) readOption(option, rules, draft.doors.warn);
    draft.upstreams.push(...rules.servers.map(upstreamText));
    // Other classes are passed on as they are.
    draft.otherClasses = true;
    draft.answer('forward', (services) => {
      const own = rules.servers.filter((server) => services.isOurselves(server));
      if (own.length > 0)
        services.log.error('an upstream DNS server is this server itself, so it is not asked; name another one', {
          upstream: own.map(upstreamText).join(','),
          at: `${place.file}:${place.line}`,
        });
      const servers = rules.servers.filter((server) => !own.includes(server));
      if (servers.length === 0) return nobodyToAsk();
      const maxConcurrent = Math.ceil(rules.maxConcurrent / services.workers);
      return createForwarder({
        ...rules,
        ...services,
        servers,
        maxConcurrent,
        onReject: () => services.dnsMetrics.forwardRejected(),
      });
    });
  },
};

/** All upstreams are this server itself: asking them would go round for ever. */
function nobodyToAsk(): Handler {
  return { name: 'forward', handle: () => coded(RCODE.REFUSED) };
}

async function upstreams(to: readonly string[], place: Place, draft: BlockDraft): Promise<readonly UpstreamServer[]> {
  const servers: UpstreamServer[] = [];
  for (const word of to) {
    const scheme = /^([a-z0-9]+):\/\//.exec(word)?.[1];
    if (scheme !== undefined && scheme !== 'dns') throw notBuilt('forward', `${scheme}://`, place);
    const server = parseUpstream(scheme === undefined ? word : word.slice('dns://'.length));
    if (server) {
      servers.push(server);
      continue;
    }
    const path = draft.doors.pathOf(word, place);
    const text = await draft.doors.readText(path);
    if (text === undefined)
      throw new CorefileError(place, `"${word}" is no address to forward to, and no file such as /etc/resolv.conf`);
    const found = parseResolvConf(text);
    if (found.unusable.length > 0)
      draft.doors.warn(`${path}: these nameservers are no addresses that can be asked: ${found.unusable.join(', ')}`);
    servers.push(...found.servers);
  }
  if (servers.length === 0) throw new CorefileError(place, `${to.join(' ')} names no upstream server`);
  if (servers.length > MOST_UPSTREAMS)
    throw new CorefileError(place, `forward takes ${MOST_UPSTREAMS} upstream servers at most, not ${servers.length}`);
  return servers;
}

function noEffect(name: string, place: Place): string {
  return `${place.file}:${place.line}: ${name} has no effect: each question to an upstream server has a socket of its own`;
}

function readOption({ name, args, place }: Option, rules: Draft, warn: (text: string) => void): void {
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
    case 'policy': {
      const [policy] = args;
      if (policy !== 'random' && policy !== 'round_robin' && policy !== 'sequential')
        throw new CorefileError(place, `policy is random, round_robin or sequential, not "${args.join(' ')}"`);
      rules.policy = policy;
      return;
    }
    case 'max_fails':
      count(args, place, name, 1);
      rules.maxFails = integer(args[0] ?? '', place, name, 0, 1_000_000);
      return;
    case 'max_concurrent':
      count(args, place, name, 1);
      rules.maxConcurrent = integer(args[0] ?? '', place, name, 0, 1_000_000_000) || Infinity;
      return;
    case 'health_check':
      rules.probe = healthCheck(args, place);
      return;
    case 'next':
      rules.next = codes(name, args, place);
      return;
    case 'failover':
      rules.failover = codes(name, args, place);
      return;
    // Each question has a socket of its own, so that none is kept whose age or number these would bound.
    case 'expire':
    case 'max_age':
      count(args, place, name, 1);
      duration(args[0] ?? '', place);
      warn(noEffect(name, place));
      return;
    case 'max_idle_conns':
      count(args, place, name, 1);
      integer(args[0] ?? '', place, name, 0, 1_000_000);
      warn(noEffect(name, place));
      return;
    default:
      if (NOT_BUILT.has(name)) throw notBuilt('forward', `"${name}"`, place);
      throw unknownOption('forward', name, place, OPTIONS);
  }
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
