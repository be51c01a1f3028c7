// autopath: the search path of a client is walked here, so that a name outside the cluster costs it one question.

import { parseIp } from '../../lib/ip.ts';
import { cnameFirst } from '../answers.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, zoneOf, zones } from '../corefile/words.ts';
import { messageOf, type Asked, type Handle, type Handler, type Outcome } from '../handler.ts';
import { parseSearch } from '../resolv-conf.ts';
import { lowerName, originAt, prependLabel, ROOT, type DnsName } from '../wire/name.ts';
import { RCODE } from '../wire/types.ts';
import type { Zone } from '../zone/zone.ts';

/** The search domains of whoever asks, in order; none means that nothing is to be completed. */
type SearchPath = (asked: Asked) => readonly DnsName[];

export interface AutopathOptions {
  readonly zones: readonly DnsName[];
  readonly search: SearchPath;
}

export function autopathHandler({ zones: own, search }: AutopathOptions, services: BlockServices): Handler {
  const successes = services.metrics.counter({
    name: 'coredns_autopath_success_total',
    help: 'Queries whose search path was walked here, with an answer.',
    labels: ['server'],
  });
  const walk = async (asked: Asked, path: readonly DnsName[], base: string, next: Handle): Promise<Outcome> => {
    const first = await next(asked);
    if (found(asked, first)) return success(first);
    for (const domain of path.slice(1)) {
      const name = (base + domain) as DnsName;
      if (name.length > 255) continue;
      const inner: Asked = { ...asked, query: { ...asked.query, name, key: lowerName(name) } };
      const outcome = await next(inner);
      const message = found(inner, outcome);
      if (!message) continue;
      asked.by = inner.by;
      return success(cnameFirst(asked.query.name, message));
    }
    // The client walks the path itself then.
    return first;
  };
  const success = (outcome: Outcome): Outcome => {
    successes.add(1, { server: services.labels.server });
    return outcome;
  };
  return {
    name: 'autopath',
    handle: (asked, next) => {
      const { key, name } = asked.query;
      if (zoneOf(key, own) === undefined) return next(asked);
      const path = search(asked);
      const [first] = path;
      const at = first === undefined ? -1 : originAt(key, first);
      return at <= 0 ? next(asked) : walk(asked, [...path, ROOT], name.slice(0, at), next);
    },
  };
}

/** The message, where it is an answer that ends a search. */
function found(asked: Asked, outcome: Outcome): ReturnType<typeof messageOf> {
  const message = messageOf(asked, outcome);
  return message?.rcode === RCODE.NOERROR ? message : undefined;
}

export const autopath: PluginDefinition = {
  name: 'autopath',
  once: true,
  setup: async ({ args, place }, draft) => {
    count(args, place, 'autopath', 1, Infinity);
    const from = args.at(-1) ?? '';
    const own = zones(args.slice(0, -1), place, draft.zones);
    if (from.startsWith('@')) {
      if (from !== '@kubernetes') throw new CorefileError(place, `autopath takes @kubernetes or a file, not "${from}"`);
      const host = parseSearch((await draft.doors.readText('/etc/resolv.conf')) ?? '');
      draft.answer('autopath', (services) => {
        const options = draft.kubernetes?.options;
        if (options && options.pods !== 'verified')
          services.log.warn(`${place.file}:${place.line}: autopath @kubernetes does nothing without "pods verified"`);
        const zone = options && services.zone(options);
        return autopathHandler(
          { zones: own, search: (asked) => (zone ? clusterPath(zone(), asked, host) : []) },
          services,
        );
      });
      return;
    }
    const path = draft.doors.pathOf(from, place);
    const text = await draft.doors.readText(path);
    if (text === undefined) throw new CorefileError(place, `there is no file ${path} to take the search path from`);
    const search = parseSearch(text);
    draft.answer('autopath', (services) => autopathHandler({ zones: own, search: () => search }, services));
  },
};

/** That of the Pod with the client's address; none where it is unknown, or more than one namespace has that address. */
function clusterPath(zone: Zone, { query, client }: Asked, host: readonly DnsName[]): readonly DnsName[] {
  const ip = client && parseIp(client.address.replace(/^::ffff:(?=[0-9.]+$)/, ''));
  const origin = zoneOf(query.key, [zone.options.origin, ...zone.reverseZones.map((one) => one.origin)]);
  const namespaces = new Set(ip ? zone.pods.get(ip) : []);
  const [namespace] = namespaces;
  if (origin === undefined || namespace === undefined || namespaces.size > 1) return [];
  const services = prependLabel('svc', origin);
  const own = services && prependLabel(namespace, services);
  return own && services ? [own, services, origin, ...host] : [];
}
