// `fairlead ingress`: ingress-nginx's job.

import { parseIp, type Ip } from '../../lib/ip.ts';
import { healthRoutes, jsonRoute, metricsRoutes } from '../../observe/server.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext } from '../context.ts';
import { runHouse } from '../house.ts';
import { namedObjects } from '../../ingress/references.ts';
import type { ListenAddress } from '../listen-address.ts';
import { ingressObjects, ingressPlane } from '../planes.ts';
import { nodeName, port } from '../settings.ts';
import { chooseSource, manifestDirs } from '../source-choice.ts';

export function ingress(args: Arguments): Promise<number> {
  const context = createRunningContext(args);
  const objects = ingressObjects(args);
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: chooseSource(args, context, { namespace: args.text('watch-namespace') || undefined }),
    namedObjects: (snapshot) => namedObjects(snapshot, objects),
    kinds: ['services', 'endpointSlices', 'ingresses', 'ingressClasses', 'secrets', 'configMaps'],
    planes: [
      ingressPlane(args, context, {
        http: everywhere(port(args, 'http-port', 80)),
        https: everywhere(port(args, 'https-port', 443)),
        sslRedirect: true,
        lenientClass: manifestDirs(args).length > 0,
      }),
    ],
    endpoints: [
      {
        what: 'metrics and health',
        listen: everywhere(port(args, 'healthz-port', 10254)),
        flag: 'healthz-port',
        routes: ({ health, state }) => [
          metricsRoutes(context.metrics),
          healthRoutes(health),
          jsonRoute('/state', state),
        ],
      },
    ],
    onPlaneFailure: 'alone',
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
