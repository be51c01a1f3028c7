// The endpoints around DNS, wherever flags or a Corefile put them.

import { coreDnsHealth, coreDnsReady, jsonRoute, metricsRoutes } from '../observe/server.ts';
import type { RunningContext } from './context.ts';
import { explainNameRoutes, type BlockOf } from './explain-name.ts';
import type { Endpoint } from './house.ts';
import type { ListenAddress } from './listen-address.ts';

export function metricsEndpoint(context: RunningContext, listen: ListenAddress, blockOf?: () => BlockOf): Endpoint {
  return {
    what: 'metrics and state',
    listen,
    flag: 'metrics-bind-address',
    routes: ({ state, snapshot }) => [
      metricsRoutes(context.metrics),
      jsonRoute('/state', state),
      ...(blockOf ? [explainNameRoutes(snapshot, blockOf)] : []),
    ],
  };
}

export function healthEndpoint(listen: ListenAddress): Endpoint {
  return { what: 'health', listen, flag: 'health-bind-address', routes: () => [coreDnsHealth()] };
}

export function readyEndpoint(listen: ListenAddress): Endpoint {
  return {
    what: 'readiness',
    listen,
    flag: 'ready-bind-address',
    routes: ({ health }) => [coreDnsReady(health)],
  };
}
