// The server block that stands for the flags, where there is no Corefile.

import { messageOf } from '../lib/message-of.ts';
import type { PodMode } from './zone/zone.ts';
import type { ListenAddress } from './listener.ts';
import type { Logger } from '../observe/log.ts';
import type { Files } from '../system/files.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import { BlockDraft, type KubernetesOptions } from './block.ts';
import { createForwarder, DEFAULT_FORWARD } from './forward.ts';
import { refuse } from './handler.ts';
import { kubernetesHandler } from './kubernetes-handler.ts';
import { isOurselves, parseResolvConf } from './resolv-conf.ts';
import { resolveThrough } from './resolve-outside.ts';
import { upstreamText, type UpstreamServer } from './upstream.ts';
import { lowerName, parseName, ROOT, type DnsName } from './wire/name.ts';

const DEFAULT_TTL = 5;
const DEFAULT_MAX_CONCURRENT = 1000;
const REVERSE = ['in-addr.arpa', 'ip6.arpa'].map((text) => parseName(text)).filter((name) => name !== undefined);

/** Where names outside the cluster are asked for. */
export type UpstreamChoice =
  | { readonly kind: 'none' }
  | { readonly kind: 'servers'; readonly servers: readonly UpstreamServer[] }
  | { readonly kind: 'resolv-conf'; readonly path: string };

/** What the flags say: plain data. */
export interface FlagSettings {
  /** At least one. `0.0.0.0` is all IPv4 addresses and `::` all IPv6 ones: name both for both. */
  readonly listen: readonly ListenAddress[];
  /** The cluster's domain; `cluster.local` by default. */
  readonly zone?: DnsName;
  /** Seconds, 0 to 3600; 5 by default. */
  readonly ttl?: number;
  /** `insecure` by default, as kubeadm configures it. */
  readonly pods?: PodMode;
  readonly upstream: UpstreamChoice;
  /** Queries that may wait for upstream servers at one time; 1000 by default. */
  readonly maxConcurrent?: number;
}

/** kubernetes, and forward where there are servers to forward to; reverse names that are not ours go there too. */
export async function flagBlock(options: FlagSettings, log: Logger, files: Files): Promise<BlockDraft> {
  const place = { file: 'flags', line: 0 };
  const doors = {
    readText: async () => undefined,
    pathOf: (name: string) => name,
    warn: (message: string) => log.warn(message),
    resolve: async () => [],
  };
  const draft = new BlockDraft({ zones: [ROOT], port: options.listen[0]?.port ?? 0, scheme: 'dns' }, place, doors);
  const origin = options.zone ?? parseName('cluster.local');
  if (!origin) throw new RangeError('no zone');
  const zoneOptions: KubernetesOptions = {
    origin: lowerName(origin),
    reverse: REVERSE,
    ttl: options.ttl ?? DEFAULT_TTL,
    pods: options.pods ?? 'insecure',
  };
  const servers = await upstreamServers(options, log, files);
  draft.loadBalanced = true;
  draft.end = refuse;
  draft.upstreams.push(...servers.map(upstreamText));
  draft.kubernetes = {
    options: zoneOptions,
    zones: [zoneOptions],
    target: {},
    selectors: {},
    startupTimeoutMs: 0,
    place,
  };
  draft.answer('kubernetes', (services) =>
    kubernetesHandler({
      zone: services.zone(zoneOptions),
      resolveOutside: servers.length > 0 ? resolveThrough(services.ask) : undefined,
      fallthrough: servers.length > 0 ? REVERSE : [],
    }),
  );
  if (servers.length > 0)
    draft.answer('forward', (services) =>
      createForwarder({
        ...DEFAULT_FORWARD,
        ...services,
        servers,
        hasNext: false,
        maxConcurrent: Math.ceil((options.maxConcurrent ?? DEFAULT_MAX_CONCURRENT) / services.workers),
        onReject: () => services.dnsMetrics.forwardRejected(),
      }),
    );
  return draft;
}

/** The servers that can be asked. What cannot be is said once, with the mend; the cluster's names go on without. */
async function upstreamServers(options: FlagSettings, log: Logger, files: Files): Promise<readonly UpstreamServer[]> {
  const configured = await configuredServers(options, log, files);
  const own = interfaceAddresses();
  const loops = configured.filter((server) => isOurselves(server, options.listen, own));
  if (loops.length > 0) {
    log.error('an upstream DNS server is this server itself, so it is not asked; name another one with --upstream', {
      upstream: loops.map(upstreamText).join(','),
      ...(options.upstream.kind === 'resolv-conf' ? { file: options.upstream.path } : {}),
    });
  }
  const servers = configured.filter((server) => !loops.includes(server));
  if (servers.length === 0)
    log.info('names outside the cluster are refused: there is no upstream DNS server; name one with --upstream');
  return servers;
}

async function configuredServers(
  { upstream }: FlagSettings,
  log: Logger,
  files: Files,
): Promise<readonly UpstreamServer[]> {
  switch (upstream.kind) {
    case 'none':
      return [];
    case 'servers':
      return upstream.servers;
    case 'resolv-conf': {
      let text: string;
      try {
        text = await files.readText(upstream.path);
      } catch (error) {
        log.warn('the upstream DNS servers cannot be read; mend the file or name servers with --upstream', {
          file: upstream.path,
          error: messageOf(error),
        });
        return [];
      }
      const { servers, unusable } = parseResolvConf(text);
      if (unusable.length > 0)
        log.warn('these nameserver entries are no addresses that can be asked, and are left out', {
          file: upstream.path,
          entries: unusable.join(','),
        });
      return servers;
    }
  }
}
