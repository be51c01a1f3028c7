// `fairlead proxy`: kube-proxy's job on this node, with its flags and its configuration file.

import { nodeIdentity } from '../../model/node.ts';
import { healthRoutes, jsonRoute, metricsRoutes, slisRoutes } from '../../observe/server.ts';
import { ProxyHealth } from '../../rules/health-check/proxy-health.ts';
import { systemFiles } from '../../system/files.ts';
import { keepHeapSmall } from '../../system/heap.ts';
import { writeTextFile } from '../../system/written-file.ts';
import type { Arguments } from '../args.ts';
import { explainRoutes } from '../explain-routes.ts';
import { createContext, createRunningContext, type RunningContext } from '../context.ts';
import { messageOf } from '../../lib/message-of.ts';
import { CommandError, EXIT_FAILURE, EXIT_STOPPED } from '../errors.ts';
import { runHouse, type Ending, type Endpoint } from '../house.ts';
import { withFlagsBeside } from '../kube-proxy/from-flags.ts';
import { ProxyEvents } from '../kube-proxy/events.ts';
import { LiveConfiguration } from '../kube-proxy/live.ts';
import { loadConfiguration, type LoadedConfiguration } from '../kube-proxy/load.ts';
import { NodePreparation } from '../kube-proxy/preparation.ts';
import { openLoopback, possibleMode, setConntrackLimits, setIpvsParameters } from '../kube-proxy/privileged.ts';
import { ConfigurationFollower } from '../kube-proxy/reload.ts';
import { pagesForPeople } from '../kube-proxy/pages.ts';
import { proxyDebugRoutes, proxyHealthRoutes } from '../kube-proxy/routes.ts';
import { liveRulesPlane } from '../kube-proxy/rules.ts';
import type { RulesStarter } from '../planes.ts';
import { toJson, type KubeProxyConfiguration } from '../kube-proxy/schema.ts';
import { activeSection, ipvsConfigOf, listenOf, modeOf, nodeNameOf, withBindAddress } from '../kube-proxy/settings.ts';
import { userspaceConfig, type LogSettings } from '../settings.ts';
import { chooseSource, manifestDirs } from '../source-choice.ts';
import { cleanup } from './cleanup.ts';
import { VERSION } from '../version.ts';
import { version } from './version.ts';

/** As long as kube-proxy waits for its Node. */
const NODE_PATIENCE_MS = 30_000;

export async function proxy(args: Arguments): Promise<number> {
  if (args.isSet('version') === true) return version();
  const loaded = await loadConfiguration(args, systemFiles);
  if (args.isSet('cleanup') === true) return cleanup(args, ipvsConfigOf(loaded.configuration).excludeCIDRs);
  const target = args.text('write-config-to');
  if (target !== undefined) return writeConfiguration(target, loaded.configuration);
  if (args.isSet('init-only') === true) return initOnly(args, loaded);
  return run(args, loaded);
}

async function writeConfiguration(target: string, configuration: KubeProxyConfiguration): Promise<number> {
  const { stringify } = await import('yaml');
  try {
    await writeTextFile(target, stringify(toJson(configuration)));
  } catch (error) {
    throw new CommandError(`flag --write-config-to: ${target} cannot be written (${messageOf(error)})`, {
      cause: error,
    });
  }
  return EXIT_STOPPED;
}

async function initOnly(args: Arguments, { configuration, origin, notices }: LoadedConfiguration): Promise<number> {
  const context = createContext(
    args,
    loggingOf(() => configuration),
  );
  for (const notice of notices) context.log.warn(notice);
  const mode = await possibleMode(configuration, origin, context);
  const problems = [
    ...(await setConntrackLimits(configuration, context)),
    ...(mode === 'iptables' ? await openLoopback(configuration, origin, context) : []),
    ...(mode === 'ipvs' ? await setIpvsParameters(configuration, context) : []),
  ];
  if (problems.length > 0) throw new CommandError(problems.join('\nfairlead: '));
  context.log.info('what needs privileges is done');
  return EXIT_STOPPED;
}

/** As the configuration says at the time of each line. */
function loggingOf(now: () => KubeProxyConfiguration): LogSettings {
  return {
    get format() {
      return now().logging.format === 'json' ? 'json' : 'text';
    },
    get verbosity() {
      return now().logging.verbosity;
    },
  };
}

async function run(args: Arguments, loaded: LoadedConfiguration): Promise<number> {
  keepHeapSmall();
  const live = new LiveConfiguration(loaded.configuration);
  const context = createRunningContext(
    args,
    loggingOf(() => live.current),
  );
  const { log, clock } = context;
  for (const notice of loaded.notices) log.warn(notice);
  const { configuration, origin } = loaded;
  const nodeName = nodeNameOf(configuration, context.hostname);
  const events = new ProxyEvents(context, nodeName);
  const health = new ProxyHealth(activeSection(configuration).syncPeriod, clock.now());
  live.onChange((now) => health.setSyncPeriod(activeSection(now).syncPeriod));
  const node = new NodePreparation(context, live, (note) => events.conntrackLimitsNotSet(note));
  const { promise: ended, resolve: end } = Promise.withResolvers<Ending>();
  const follower =
    loaded.file &&
    new ConfigurationFollower({
      ...context,
      ...loaded.file,
      live,
      log: log.named('config'),
      complete: (next) => withFlagsBeside(next, args),
      onRestartNeeded: (fields) => end({ reason: `restart needed: ${fields.join(', ')}`, code: EXIT_FAILURE }),
    });
  const rules = liveRulesPlane({
    live,
    origin,
    own: {
      resetTcpToDeletedEndpoints: args.isSet('reset-tcp-to-deleted-endpoints') ?? false,
      userspace: userspaceConfig(args, true),
    },
    nodeName,
    plane: {
      ...context,
      mode: modeOf(configuration, origin),
      removeOnStop: false,
      log: log.named('rules'),
      health,
      onHealthCheckFailure: (service, note) => events.healthCheckNotServed(service, note),
      onChosen: (mode) => node.begin(mode),
    },
  });
  try {
    return await runHouse({
      context,
      nodeName,
      identity: (records) => withBindAddress(nodeIdentity(records, nodeName), live.current),
      source: chooseSource(args, context, { nodeName, kubeconfig: configuration.clientConnection.kubeconfig }),
      kinds: ['services', 'endpointSlices', 'nodes', 'serviceCIDRs'],
      planes: [rules],
      endpoints: endpointsOf({ args, live, health, rules, context, readsIngresses: manifestDirs(args).length > 0 }),
      onPlaneFailure: 'alone',
      patience: {
        kind: 'nodes',
        ms: NODE_PATIENCE_MS,
        // As kube-proxy: traffic must not wait for who we are.
        consequence: `going on without the Node ${nodeName}; its addresses, zone and Pod ranges count as soon as it can be read`,
      },
      onSource: ({ connection }) => {
        events.connect(connection);
        events.starting();
      },
      ended,
    });
  } finally {
    await Promise.all([follower?.stop(), events.stop(), node.done()]);
  }
}

interface EndpointsOptions {
  readonly args: Arguments;
  readonly live: LiveConfiguration;
  readonly health: ProxyHealth;
  readonly rules: RulesStarter;
  readonly context: RunningContext;
  readonly readsIngresses: boolean;
}

/** kube-proxy is not told the cluster's domain; this is the one that clusters have. */
const ZONE = 'cluster.local';

function endpointsOf({ args, live, health, rules, context, readsIngresses }: EndpointsOptions): readonly Endpoint[] {
  const startedAt = performance.timeOrigin;
  const { metricsBindAddress, healthzBindAddress, bindAddressHardFail: hardFail } = live.current;
  const metricsListen = listenOf(metricsBindAddress, 10_249);
  const healthListen = listenOf(healthzBindAddress, 10_256);
  const metrics: readonly Endpoint[] = metricsListen
    ? [
        {
          what: 'metrics and state',
          listen: metricsListen,
          flag: 'metrics-bind-address (metricsBindAddress)',
          hardFail,
          routes: (house) => [
            metricsRoutes(context.metrics),
            slisRoutes(startedAt),
            healthRoutes(house.health),
            proxyDebugRoutes(() => rules.mode() ?? live.current.mode, live),
            pagesForPeople({ args, version: VERSION, startedAt, now: () => context.clock.now() }),
            jsonRoute('/state', house.state),
            explainRoutes({ ...rules, snapshot: house.snapshot, zone: ZONE, readsIngresses }),
          ],
        },
      ]
    : [];
  const probes: readonly Endpoint[] = healthListen
    ? [
        {
          what: 'health',
          listen: healthListen,
          flag: 'healthz-bind-address (healthzBindAddress)',
          hardFail,
          routes: (house) => [
            healthRoutes(house.health),
            proxyHealthRoutes(health, () => house.node()?.leaving === false, {
              now: () => context.clock.now(),
              metrics: context.metrics,
            }),
          ],
        },
      ]
    : [];
  return [...metrics, ...probes];
}
