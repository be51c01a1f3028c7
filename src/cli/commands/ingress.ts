// `fairlead ingress`: ingress-nginx's job.

import type { Tell } from '../../ingress/notice.ts';
import type { IngressPlane } from '../../ingress/plane.ts';
import type { RouteTable } from '../../ingress/route-table.ts';
import { parseIp, type Ip } from '../../lib/ip.ts';
import { messageOf } from '../../lib/message-of.ts';
import { jsonRoute, healthRoutes, metricsRoutes, type Route, type Routes } from '../../observe/server.ts';
import type { ApiConnection } from '../../source/api/connection.ts';
import { EventRecorder } from '../../source/api/event.ts';
import type { Kind } from '../../source/store.ts';
import { startWebhook, type Webhook } from '../admission.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext, type RunningContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { explainIngressRoutes } from '../explain-routes.ts';
import { runHouse, type Endpoint, type HouseView } from '../house.ts';
import {
  namespaceSelector,
  noticeFlagsWithoutEffect,
  observeSettings,
  statusSettings,
  stopSettings,
  trafficSettings,
  webhookSettings,
} from '../ingress-settings.ts';
import { IngressStatusKeeper } from '../ingress-status.ts';
import type { ListenAddress } from '../listen-address.ts';
import { ingressPlane, type IngressStarter } from '../planes.ts';
import { nodeName, port, workers } from '../settings.ts';
import { chooseSource, manifestDirs } from '../source-choice.ts';
import { version } from './version.ts';

/** ingress-nginx' worker-shutdown-timeout. */
const GRACE_MS = 240_000;

export async function ingress(args: Arguments): Promise<number> {
  if (args.isSet('version') === true) return version();
  const context = createRunningContext(args);
  const settings = settingsOf(args, context);
  const { stop, selector } = settings;
  const source = chooseSource(args, context, {
    namespace: args.text('watch-namespace') || undefined,
    certificateAuthority: args.text('certificate-authority') || undefined,
    ...(selector ? { selectors: { namespaces: selector } } : {}),
  });
  noticeFlagsWithoutEffect(args, context.log);
  const events = eventRecorder(args, context);
  let keeper: IngressStatusKeeper | undefined;
  let stopping = false;
  const plane = planeOf(args, context, settings, events.tell, () => keeper?.changed());
  const webhook = await webhookOf(context, settings, plane);
  const code = await runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source,
    kinds: kindsOf(args, settings),
    planes: [plane],
    endpoints: [endpointOf(context, settings, plane, () => stopping)],
    onPlaneFailure: 'alone',
    onSource: ({ connection }) => {
      events.recorder.connect(connection);
      keeper = connection && statusKeeper(context, settings, plane, connection);
    },
    onStop: async () => {
      stopping = true;
      await context.clock.sleep(stop.graceMs);
      await Promise.all([keeper?.stop(), events.recorder.stop(), webhook?.stop()]);
    },
  });
  await context.clock.sleep(stop.afterMs);
  return code;
}

type Settings = ReturnType<typeof settingsOf>;

/** All that flags say; a mistake in any of them is told before anything starts. */
function settingsOf(args: Arguments, context: RunningContext) {
  return {
    status: statusSettings(args, context.hostname, process.env),
    webhook: webhookSettings(args),
    observe: observeSettings(args),
    stop: stopSettings(args),
    selector: namespaceSelector(args),
    traffic: trafficSettings(args, process.env),
    http: port(args, 'http-port', 80),
    https: port(args, 'https-port', 443),
  };
}

function planeOf(
  args: Arguments,
  context: RunningContext,
  { http, https, observe, webhook, traffic }: Settings,
  tell: Tell,
  onApplied: () => void,
): IngressStarter {
  return ingressPlane(args, context, {
    http: everywhere(http),
    https: everywhere(https),
    sslRedirect: true,
    lenientClass: manifestDirs(args).length > 0,
    tell,
    accessLog: context.out,
    workers: workers(args, context.cpus),
    graceMs: GRACE_MS,
    // As ingress-nginx, whatever --https-port is.
    toldHttpsPort: 443,
    traffic,
    tellOfSync: args.isSet('disable-sync-events') !== true,
    onApplied,
    reserved: new Set([http, https, observe.listen.port, ...(webhook ? [webhook.port] : [])]),
  });
}

function kindsOf(args: Arguments, { selector }: Settings): readonly Kind[] {
  return [
    'services',
    'endpointSlices',
    'ingresses',
    'ingressClasses',
    'secrets',
    'configMaps',
    ...(selector ? (['namespaces'] as const) : []),
    ...(args.isSet('enable-topology-aware-routing') === true ? (['nodes'] as const) : []),
  ];
}

async function webhookOf(
  context: RunningContext,
  { webhook, traffic }: Settings,
  plane: IngressStarter,
): Promise<Webhook | undefined> {
  if (!webhook) return undefined;
  const log = context.log.named('admission');
  const table = (): RouteTable | undefined => plane.plane()?.table;
  return opened(startWebhook({ ...context, settings: webhook, table, log, labels: traffic.labels ?? {} }));
}

function endpointOf(
  context: RunningContext,
  { observe }: Settings,
  plane: IngressStarter,
  stopping: () => boolean,
): Endpoint {
  return {
    what: 'metrics and health',
    listen: observe.listen,
    flag: 'healthz-port',
    routes: ({ health, state }) => [
      ...(observe.metrics ? [metricsRoutes(context.metrics)] : []),
      healthAt(observe.healthPath, { ...health, broken: () => (stopping() ? 'stopping\n' : health.broken()) }),
      jsonRoute('/state', state),
      explainIngressRoutes((url) => plane.plane()?.explain(url)),
    ],
  };
}

function statusKeeper(
  context: RunningContext,
  { status, traffic }: Settings,
  plane: IngressStarter,
  connection: ApiConnection,
): IngressStatusKeeper | undefined {
  if (!status) return undefined;
  const ours = (): ReturnType<IngressPlane['ours']> => plane.plane()?.ours() ?? [];
  const log = context.log.named('status');
  return new IngressStatusKeeper({
    ...context,
    connection,
    settings: status,
    ours,
    log,
    labels: traffic.labels ?? {},
  });
}

function eventRecorder(
  args: Arguments,
  context: RunningContext,
): { readonly recorder: EventRecorder; readonly tell: Tell } {
  const sent = context.metrics.counter({
    name: 'fairlead_ingress_events_total',
    help: 'Events written, by whether the API server took them',
    labels: ['taken'],
  });
  const recorder = new EventRecorder({
    ...context,
    controller: 'fairlead-ingress',
    nodeName: process.env['POD_NAME'] ?? nodeName(args, context.hostname),
    onSent: (taken) => sent.add(1, { taken: String(taken) }),
  });
  return {
    recorder,
    tell: ({ about, key, uid = '', type, reason, note }) => {
      const [namespace = '', name = ''] = key.split('/');
      recorder.record({ regarding: { kind: about, namespace, name, uid }, type, reason, action: 'Sync', note });
    },
  };
}

/** What the webhook cannot start for is told in one line. */
async function opened<T>(starting: Promise<T>): Promise<T> {
  try {
    return await starting;
  } catch (error) {
    const message = `the webhook cannot start: ${messageOf(error)}. See --validating-webhook, --validating-webhook-certificate and --validating-webhook-key.`;
    throw new UsageError(message, { cause: error });
  }
}

/** The probes, with `/healthz` at the path of `--health-check-path` as well. */
function healthAt(path: string, health: HouseView['health']): Routes {
  const routes = healthRoutes(health);
  const check: Route | undefined = routes.get('/healthz');
  return check ? new Map([...routes, [path, check]]) : routes;
}

/** Both families on one socket where the machine has IPv6. */
function everywhere(number: number): ListenAddress {
  return { address: UNSPECIFIED, port: number };
}

const UNSPECIFIED: Ip = unspecified();

function unspecified(): Ip {
  const ip = parseIp('0.0.0.0');
  if (!ip) throw new Error('0.0.0.0 does not parse');
  return ip;
}
