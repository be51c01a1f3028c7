// The server block that flags make, as `explain name` reads it.

import type { KubernetesOptions } from './block.ts';
import type { ExplainedBlock } from './explain.ts';
import { parseName, ROOT, type DnsName } from './wire/name.ts';

/** The one block that flags make. */
export function flagBlockFinder(domain: string, upstreams: readonly string[]): (name: DnsName) => ExplainedBlock {
  const reverse = ['in-addr.arpa', 'ip6.arpa'].flatMap((text) => parseName(text) ?? []);
  const origin = parseName(domain) ?? ROOT;
  const options: KubernetesOptions = { origin, reverse, ttl: 5, pods: 'insecure' };
  const plugins = ['kubernetes', ...(upstreams.length > 0 ? ['forward'] : [])];
  return () => ({ zones: ['.'], plugins, kubernetes: [options], upstreams });
}
