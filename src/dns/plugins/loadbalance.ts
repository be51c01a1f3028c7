// loadbalance: which address comes first.

import { cidrContains, parseCidr, type Cidr } from '../../lib/cidr.ts';
import { ipFromBytes, parseIp } from '../../lib/ip.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import type { Directive, Option } from '../corefile/parse.ts';
import { count, duration, unknownOption } from '../corefile/words.ts';
import { changed, messageOf, replyOf, type Asked, type Handler, type Outcome } from '../handler.ts';
import type { Message, OwnedRecord } from '../wire/message.ts';
import { lowerName, parseName, type DnsName } from '../wire/name.ts';
import { addressData } from '../wire/record.ts';
import { RCODE, RR } from '../wire/types.ts';

const DEFAULT_RELOAD_MS = 30_000;
const MOST_WEIGHT = 255;

/** By name, in lower case, and the data of an address record. */
type Weights = ReadonlyMap<DnsName, ReadonlyMap<string, number>>;

type Read =
  | { readonly kind: 'weights'; readonly weights: Weights }
  | { readonly kind: 'mistake'; readonly why: string };

/** NAME on a line of its own, and then ADDRESS WEIGHT for each of its addresses. */
export function parseWeights(text: string): Read {
  const weights = new Map<DnsName, Map<string, number>>();
  let own: Map<string, number> | undefined;
  for (const [i, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/);
    const [first = '', weightText] = words;
    if (first === '' || first.startsWith('#')) continue;
    const mistake = (why: string): Read => ({ kind: 'mistake', why: `line ${i + 1}: ${why}` });
    const ip = parseIp(first);
    if (words.length === 1) {
      const name = ip ? undefined : parseName(first);
      if (!name) return mistake(`"${first}" is no name; behind an address, its weight was expected`);
      own = weights.get(lowerName(name)) ?? new Map();
      weights.set(lowerName(name), own);
      continue;
    }
    const weight = /^[0-9]{1,3}$/.test(weightText ?? '') ? Number(weightText) : 0;
    if (words.length > 2 || !ip) return mistake(`ADDRESS WEIGHT was expected, not "${line.trim()}"`);
    if (weight < 1 || weight > MOST_WEIGHT) return mistake(`a weight is from 1 to ${MOST_WEIGHT}, not "${weightText}"`);
    if (!own) return mistake('a name was expected before its addresses');
    own.set(addressData(ip), weight);
  }
  return { kind: 'weights', weights };
}

/** The addresses of an answer in the order in which they are told. */
type Order = (addresses: readonly OwnedRecord[], random: () => number) => readonly OwnedRecord[];

/** Each order is as likely. */
export const shuffled: Order = (addresses, random) => {
  const out = [...addresses];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const [a, b] = [out[i], out[j]];
    if (a && b) [out[i], out[j]] = [b, a];
  }
  return out;
};

/** One comes first, the likelier the heavier it is; those without a weight have 1. */
export function weightedFirst(weights: () => Weights): Order {
  return (addresses, random) => {
    const own = addresses.map(({ owner, data }) => weights().get(lowerName(owner))?.get(data) ?? 1);
    let left = random() * own.reduce((sum, weight) => sum + weight, 0);
    const first = Math.max(
      0,
      own.findIndex((weight) => (left -= weight) < 0),
    );
    const chosen = addresses[first];
    return chosen ? [chosen, ...addresses.filter((_, i) => i !== first)] : addresses;
  };
}

/** Those of the first range, of the second, and so on, and then the others. */
export function preferred(ranges: readonly Cidr[], order: Order): Order {
  const rank = ({ data }: OwnedRecord): number => {
    const ip = ipFromBytes(Buffer.from(data, 'latin1'));
    const found = ranges.findIndex((range) => cidrContains(range, ip));
    return found < 0 ? ranges.length : found;
  };
  return (addresses, random) => order(addresses, random).toSorted((a, b) => rank(a) - rank(b));
}

function loadBalanceHandler(order: Order, { random }: Pick<BlockServices, 'random'>): Handler {
  return {
    name: 'loadbalance',
    handle: (asked, next) => changed(next(asked), (outcome) => balanced(asked, outcome, order, random)),
  };
}

function balanced(asked: Asked, outcome: Outcome, order: Order, random: () => number): Outcome {
  const message = messageOf(asked, outcome);
  if (message?.rcode !== RCODE.NOERROR) return outcome;
  if (message.answer.filter(isAddress).length < 2) return outcome;
  const answer = reordered(message.answer, order, random);
  const additional = reordered(message.additional, order, random);
  return { kind: 'reply', reply: replyOf({ ...message, answer, additional }) };
}

/** Aliases stay in front, and mail servers at the end. */
function reordered(records: Message['answer'], order: Order, random: () => number): readonly OwnedRecord[] {
  const rest = records.filter((record) => !isAddress(record) && record.type !== RR.CNAME && record.type !== RR.MX);
  return [
    ...records.filter(({ type }) => type === RR.CNAME),
    ...rest,
    ...order(records.filter(isAddress), random),
    ...shuffled(
      records.filter(({ type }) => type === RR.MX),
      random,
    ),
  ];
}

function isAddress({ type }: OwnedRecord): boolean {
  return type === RR.A || type === RR.AAAA;
}

export const loadbalance: PluginDefinition = {
  name: 'loadbalance',
  once: false,
  setup: async (directive, draft) => {
    const { args, options, place } = directive;
    const [policy = 'round_robin', ...more] = args;
    if (policy !== 'round_robin' && policy !== 'weighted')
      throw new CorefileError(place, `loadbalance is round_robin or weighted FILE, not "${policy}"`);
    count(more, place, `loadbalance ${policy}`, policy === 'weighted' ? 1 : 0);
    const known = policy === 'weighted' ? ['reload', 'prefer'] : ['prefer'];
    for (const { name, place: at } of options)
      if (!known.includes(name)) throw unknownOption('loadbalance', name, at, known);
    const ranges = options.filter(({ name }) => name === 'prefer').flatMap(readRanges);
    if (policy === 'round_robin') {
      // Without more to it, addresses take turns where answers are written.
      if (ranges.length === 0) draft.loadBalanced = true;
      else draft.answer('loadbalance', (services) => loadBalanceHandler(preferred(ranges, shuffled), services));
      return;
    }
    const { path, reloadMs } = { path: draft.doors.pathOf(more[0] ?? '', place), reloadMs: reloadOf(directive) };
    let text = await draft.doors.readText(path);
    if (text === undefined) draft.doors.warn(`${place.file}:${place.line}: there is no file ${path} yet`);
    let weights = weightsOf(text ?? '', path, place);
    const order = preferred(
      ranges,
      weightedFirst(() => weights),
    );
    draft.answer('loadbalance', (services) => loadBalanceHandler(order, services));
    if (reloadMs <= 0) return;
    draft.tasks.push(async ({ clock, stopped, readText, log }) => {
      while (!stopped.aborted) {
        await clock.sleep(reloadMs, stopped);
        if (stopped.aborted) return;
        const now = await readText(path);
        if (now === undefined || now === text) continue;
        text = now;
        const read = parseWeights(now);
        if (read.kind === 'weights') ({ weights } = read);
        else log.error(`the weights of ${path} have changed and cannot be taken; the old ones stay. ${read.why}`);
      }
    });
  },
};

function reloadOf({ options }: Directive): number {
  const reload = options.find(({ name }) => name === 'reload');
  if (!reload) return DEFAULT_RELOAD_MS;
  count(reload.args, reload.place, 'reload', 1);
  return duration(reload.args[0] ?? '', reload.place);
}

function weightsOf(text: string, path: string, place: Place): Weights {
  const read = parseWeights(text);
  if (read.kind === 'mistake') throw new CorefileError(place, `${path}: ${read.why}`);
  return read.weights;
}

function readRanges({ args, place }: Option): readonly Cidr[] {
  count(args, place, 'prefer', 1, Infinity);
  return args.map((text) => {
    const range = parseCidr(text);
    if (!range) throw new CorefileError(place, `prefer: "${text}" is no range such as 10.0.0.0/8`);
    return range;
  });
}
