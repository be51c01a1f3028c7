// `fairlead dns`: CoreDNS's job, as its Corefile says or as flags say.

import { flagBlockFinder } from '../../dns/explained-flags.ts';
import type { Corefile, LoadedCorefile } from '../../dns/corefile/load.ts';
import type { NodeLocal } from '../../dns/node-local/node.ts';
import { upstreamText } from '../../dns/upstream.ts';
import { messageOf } from '../../lib/message-of.ts';
import { keepHeapSmall } from '../../system/heap.ts';
import { onSignal } from '../../system/signals.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext, type RunningContext } from '../context.ts';
import { CorefileRole, mostWaitMs, sourceOf, threadsOf } from '../corefile-role.ts';
import { healthEndpoint, metricsEndpoint, readyEndpoint } from '../dns-endpoints.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import type { BlockOf } from '../explain-name.ts';
import { runHouse, type Endpoint } from '../house.ts';
import type { ListenAddress } from '../listen-address.ts';
import { nodeLocal, nodeLocalSettings, withTemplate, type NodeLocalSettings } from '../node-local.ts';
import { corefilePlane, dnsPlane } from '../planes.ts';
import { clusterDomain, listenAddress, listenAddresses, nodeName, port, upstreams, workers } from '../settings.ts';
import { chooseSource } from '../source-choice.ts';
import { VERSION } from '../version.ts';

export async function dns(args: Arguments): Promise<number> {
  const context = createRunningContext(args);
  if (args.isSet('version')) {
    context.out(`fairlead ${VERSION}\n`);
    return EXIT_STOPPED;
  }
  if (args.isSet('plugins')) {
    const { PLUGINS } = await import('../../dns/plugin-list.ts');
    const names = PLUGINS.flatMap((plugin) => (typeof plugin === 'string' ? [] : [plugin.name]));
    context.out(`${names.map((name) => `dns.${name}`).join('\n')}\n`);
    return EXIT_STOPPED;
  }
  keepHeapSmall();
  // As CoreDNS, so that a terminal that goes takes no server with it.
  onSignal('SIGHUP', () => {});
  // Before there is anything to read again; Node would open its debugger.
  onSignal('SIGUSR1', () => {});
  const settings = nodeLocalSettings(args);
  const node = settings && { settings, running: nodeLocal(settings, context) };
  const path = args.text('conf');
  const run = (): Promise<number> =>
    path === undefined ? byFlags(args, context, node) : byCorefile(args, context, path, node);
  return withPidFile(args, () => (node ? onNode(node, run) : run()));
}

interface Node {
  readonly settings: NodeLocalSettings;
  readonly running: NodeLocal;
}

/** With addresses and rules around it. */
async function onNode({ running }: Node, run: () => Promise<number>): Promise<number> {
  await running.start();
  try {
    return await run();
  } finally {
    await running.stop();
  }
}

/** The metrics of a node's server have an address of their own. */
function nodeEndpoints(context: RunningContext, node: Node | undefined): readonly Endpoint[] {
  return node ? [{ ...metricsEndpoint(context, node.settings.metrics), flag: 'metrics-listen-address' }] : [];
}

/** The file holds the process's number while it runs. */
async function withPidFile(args: Arguments, run: () => Promise<number>): Promise<number> {
  const path = args.text('pidfile');
  if (path === undefined) return run();
  const { removeFile, writeTextFile } = await import('../../system/written-file.ts');
  try {
    await writeTextFile(path, `${process.pid}\n`);
  } catch (error) {
    const why = messageOf(error);
    throw new UsageError(`flag --pidfile: cannot write ${path}: ${why}`);
  }
  try {
    return await run();
  } finally {
    await removeFile(path);
  }
}

function byFlags(args: Arguments, context: RunningContext, node: Node | undefined): Promise<number> {
  const own = node?.settings.ips.map((address) => ({ address, port: port(args, 'dns.port', 53) }));
  const servers = upstreams(args)?.map(upstreamText) ?? ['the servers of /etc/resolv.conf'];
  const threads = workers(args, context.cpus);
  const byFlagsOf = flagBlockFinder(clusterDomain(args), servers);
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: chooseSource(args, context, { mostWaitMs: mostWaitMs(args), countedAs: 'coredns' }),
    kinds: ['services', 'endpointSlices', 'namespaces'],
    planes: [dnsPlane(args, context, own ?? listenOn(args), threads)],
    mayPause: mayPause(threads),
    endpoints: [
      ...nodeEndpoints(context, node),
      metricsEndpoint(context, listenAddress(args, 'metrics-bind-address', '127.0.0.1:9153'), () => byFlagsOf),
      healthEndpoint(listenAddress(args, 'health-bind-address', '0.0.0.0:8080')),
      readyEndpoint(listenAddress(args, 'ready-bind-address', '0.0.0.0:8181')),
    ],
    onPlaneFailure: 'alone',
  });
}

/** What a Corefile says itself. */
const NOT_WITH_CONF = [
  'cluster-domain',
  'upstream',
  'dns-bind-address',
  'metrics-bind-address',
  'health-bind-address',
  'ready-bind-address',
];

function refuseDoubled(args: Arguments, node: Node | undefined): void {
  for (const flag of NOT_WITH_CONF) {
    // A node's template has the zone open.
    if (flag === 'cluster-domain' && node) continue;
    if (args.list(flag) ?? args.text(flag))
      throw new UsageError(`flags --conf and --${flag} exclude each other: the Corefile says it; change it there`);
  }
}

async function byCorefile(
  args: Arguments,
  context: RunningContext,
  path: string,
  node: Node | undefined,
): Promise<number> {
  refuseDoubled(args, node);
  const { loadCorefile } = await import('../../dns/corefile/load.ts');
  const { clusterNeeds } = await import('../../dns/cluster-needs.ts');
  const mistaken = (message: string): void => {
    node?.running.badConfigMap();
    context.log.error(message);
  };
  const load = async (): Promise<LoadedCorefile> => {
    const files = node ? await withTemplate(context.files, path, node.settings, mistaken) : context.files;
    return loadCorefile({ path, files, env: (name) => process.env[name], port: port(args, 'dns.port', 53) });
  };
  const loaded = await load();
  if (loaded.kind === 'mistake') throw new UsageError(loaded.message);
  const { corefile } = loaded;
  const { blocks } = corefile;
  if (args.isSet('quiet') !== true)
    for (const { zones, port: number } of blocks) context.log.info('serving', { zones: zones.length, port: number });
  const found = clusterNeeds(blocks);
  if (found.kind === 'mistake') throw new UsageError(found.message);
  const { blockFinder } = await import('../../dns/explained-block.ts');
  const blocksOf = (one: Corefile): BlockOf => blockFinder(one.blocks);
  const threads = threadsOf(args, context, corefile);
  const role = new CorefileRole({
    args,
    context,
    corefile,
    needs: found.needs,
    blocksOf,
    always: nodeEndpoints(context, node),
  });
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: sourceOf(args, context, found.needs),
    kinds: found.needs.kinds,
    mayPause: mayPause(threads),
    planes: [
      corefilePlane(
        context,
        threads,
        corefile,
        load,
        (next) => role.prepare(next, clusterNeeds),
        node?.settings.rereadMs,
      ),
    ],
    endpoints: role.endpoints(corefile),
    onControl: (control) => role.controlledBy(control),
    onStop: () => role.stop(),
    onPlaneFailure: 'alone',
  });
}

/** Where threads of their own answer, nobody waits for the main one. */
function mayPause(threads: number): 'always' | 'at the start' {
  return threads > 0 ? 'always' : 'at the start';
}

function listenOn(args: Arguments): readonly ListenAddress[] {
  if (args.text('dns.port') === undefined) {
    return listenAddresses(args, 'dns-bind-address', ['0.0.0.0:53', '[::]:53']);
  }
  if (args.list('dns-bind-address')) {
    throw new UsageError('flags --dns.port and --dns-bind-address exclude each other: give the port with the address');
  }
  const number = port(args, 'dns.port', 53);
  return listenAddresses(args, 'dns-bind-address', [`0.0.0.0:${number}`, `[::]:${number}`]);
}
