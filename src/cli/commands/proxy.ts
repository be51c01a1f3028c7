// `fairlead proxy`: kube-proxy's job on this node.

import { healthRoutes, jsonRoute, metricsRoutes } from '../../observe/server.ts';
import { keepHeapSmall } from '../../system/heap.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext } from '../context.ts';
import { runHouse } from '../house.ts';
import { rulesPlane } from '../planes.ts';
import { explainRoutes } from '../explain-routes.ts';
import { clusterDomain, listenAddress, nodeName, rulesMode } from '../settings.ts';
import { chooseSource, manifestDirs } from '../source-choice.ts';

export function proxy(args: Arguments): Promise<number> {
  keepHeapSmall();
  const context = createRunningContext(args);
  const rules = rulesPlane(args, context, { mode: rulesMode(args, 'auto'), removeOnStop: false });
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: chooseSource(args, context),
    kinds: ['services', 'endpointSlices', 'nodes'],
    planes: [rules],
    endpoints: [
      {
        what: 'metrics and state',
        listen: listenAddress(args, 'metrics-bind-address', '127.0.0.1:10249'),
        flag: 'metrics-bind-address',
        routes: ({ health, state, snapshot }) => [
          metricsRoutes(context.metrics),
          healthRoutes(health),
          jsonRoute('/state', state),
          explainRoutes({
            ...rules,
            snapshot,
            zone: clusterDomain(args),
            readsIngresses: manifestDirs(args).length > 0,
          }),
        ],
      },
      {
        what: 'health',
        listen: listenAddress(args, 'healthz-bind-address', '0.0.0.0:10256'),
        flag: 'healthz-bind-address',
        routes: ({ health }) => [healthRoutes(health)],
      },
    ],
    onPlaneFailure: 'alone',
  });
}
