// The plugins, in the order in which a question meets them. The order in a Corefile has no meaning (CoreDNS:
// core/dnsserver/zdirectives.go).

import type { PluginDefinition } from './block.ts';
import { acl } from './plugins/acl.ts';
import { any } from './plugins/any.ts';
import { dns64 } from './plugins/dns64.ts';
import { autopath } from './plugins/autopath.ts';
import { tls } from './plugins/tls.ts';
import { transfer } from './plugins/transfer.ts';
import { k8sExternal } from './plugins/k8s-external.ts';
import { file } from './plugins/file.ts';
import { view } from './plugins/view.ts';
import { bind } from './plugins/bind.ts';
import { bufsize } from './plugins/bufsize.ts';
import { cache, CACHE_BEHIND } from './plugins/cache.ts';
import { cancel } from './plugins/cancel.ts';
import { chaos } from './plugins/chaos.ts';
import { errors } from './plugins/errors.ts';
import { forward } from './plugins/forward.ts';
import { header } from './plugins/header.ts';
import { health } from './plugins/health.ts';
import { hosts } from './plugins/hosts.ts';
import { kubernetes } from './plugins/kubernetes.ts';
import { loadbalance } from './plugins/loadbalance.ts';
import { local } from './plugins/local.ts';
import { log } from './plugins/log.ts';
import { loop } from './plugins/loop.ts';
import { minimal } from './plugins/minimal.ts';
import { debug } from './plugins/debug.ts';
import { metadata } from './plugins/metadata.ts';
import { nsid } from './plugins/nsid.ts';
import { timeouts } from './plugins/timeouts.ts';
import { multisocket } from './plugins/multisocket.ts';
import { pprof } from './plugins/pprof.ts';
import { prometheus } from './plugins/prometheus.ts';
import { ready } from './plugins/ready.ts';
import { reload } from './plugins/reload.ts';
import { rewrite } from './plugins/rewrite.ts';
import { root } from './plugins/root.ts';
import { template } from './plugins/template.ts';
import { whoami } from './plugins/whoami.ts';

/** A plugin that runs, or the name of one that is known and refused. */
export const PLUGINS: readonly (PluginDefinition | string)[] = [
  root,
  metadata,
  'geoip',
  cancel,
  'proxyproto',
  'quic',
  'grpc_server',
  'https',
  'https3',
  timeouts,
  multisocket,
  reload,
  nsid,
  bufsize,
  bind,
  debug,
  'trace',
  ready,
  health,
  pprof,
  'shed',
  prometheus,
  errors,
  log,
  'dnstap',
  local,
  dns64,
  any,
  chaos,
  loadbalance,
  'tsig',
  rewrite,
  autopath,
  acl,
  cache,
  header,
  'dnssec',
  tls,
  minimal,
  template,
  transfer,
  hosts,
  'route53',
  'azure',
  'clouddns',
  k8sExternal,
  kubernetes,
  // The second place of cache: for names that kubernetes hands on.
  CACHE_BEHIND,
  file,
  'auto',
  'secondary',
  'etcd',
  loop,
  forward,
  'grpc',
  'erratic',
  whoami,
  'on',
  'sign',
  view,
  'nomad',
];

/** Names of handlers in the order of the chain. */
export const CHAIN_ORDER: readonly string[] = PLUGINS.map((plugin) =>
  typeof plugin === 'string' ? plugin : plugin.name,
);

export function builtPlugin(name: string): PluginDefinition | undefined {
  for (const plugin of PLUGINS) if (typeof plugin !== 'string' && plugin.name === name) return plugin;
  return undefined;
}

export function isKnownPlugin(name: string): boolean {
  return name !== CACHE_BEHIND && CHAIN_ORDER.includes(name);
}
