// `fairlead ingress`: ingress-nginx's job.

import { parseIp, type Ip } from '../../lib/ip.ts';
import { healthRoutes, jsonRoute, metricsRoutes } from '../../observe/server.ts';
import { EventRecorder } from '../../source/api/event.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext } from '../context.ts';
import { explainIngressRoutes } from '../explain-routes.ts';
import { runHouse } from '../house.ts';
import { noticeFlagsWithoutEffect, statusSettings } from '../ingress-settings.ts';
import { IngressStatusKeeper } from '../ingress-status.ts';
import { namedObjects } from '../../ingress/references.ts';
import type { ListenAddress } from '../listen-address.ts';
import { ingressObjects, ingressPlane } from '../planes.ts';
import { nodeName, port } from '../settings.ts';
import { chooseSource, manifestDirs } from '../source-choice.ts';

export function ingress(args: Arguments): Promise<number> {
  const context = createRunningContext(args);
  const objects = ingressObjects(args);
  const status = statusSettings(args, context.hostname, process.env);
  const source = chooseSource(args, context, { namespace: args.text('watch-namespace') || undefined });
  noticeFlagsWithoutEffect(args, context.log);
  const sent = context.metrics.counter({
    name: 'fairlead_ingress_events_total',
    help: 'Events written, by whether the API server took them',
    labels: ['taken'],
  });
  const events = new EventRecorder({
    ...context,
    controller: 'fairlead-ingress',
    nodeName: process.env['POD_NAME'] ?? nodeName(args, context.hostname),
    onSent: (taken) => sent.add(1, { taken: String(taken) }),
  });
  let keeper: IngressStatusKeeper | undefined;
  const plane = ingressPlane(args, context, {
    http: everywhere(port(args, 'http-port', 80)),
    https: everywhere(port(args, 'https-port', 443)),
    sslRedirect: true,
    lenientClass: manifestDirs(args).length > 0,
    tell: ({ about, key, uid = '', type, reason, note }) => {
      const [namespace = '', name = ''] = key.split('/');
      events.record({ regarding: { kind: about, namespace, name, uid }, type, reason, action: 'Sync', note });
    },
    tellOfSync: args.isSet('disable-sync-events') !== true,
    onApplied: () => keeper?.changed(),
  });
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source,
    namedObjects: (snapshot) => namedObjects(snapshot, objects),
    kinds: ['services', 'endpointSlices', 'ingresses', 'ingressClasses', 'secrets', 'configMaps'],
    planes: [plane],
    endpoints: [
      {
        what: 'metrics and health',
        listen: everywhere(port(args, 'healthz-port', 10254)),
        flag: 'healthz-port',
        routes: ({ health, state }) => [
          metricsRoutes(context.metrics),
          healthRoutes(health),
          jsonRoute('/state', state),
          explainIngressRoutes((url) => plane.plane()?.explain(url)),
        ],
      },
    ],
    onPlaneFailure: 'alone',
    onSource: ({ connection }) => {
      events.connect(connection);
      if (!connection || !status) return;
      keeper = new IngressStatusKeeper({
        ...context,
        connection,
        settings: status,
        ours: () => plane.plane()?.ours() ?? [],
        log: context.log.named('status'),
      });
    },
    onStop: async () => {
      await Promise.all([keeper?.stop(), events.stop()]);
    },
  });
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
