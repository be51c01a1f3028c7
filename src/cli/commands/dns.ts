// `fairlead dns`: CoreDNS's job.

import { coreDnsHealth, coreDnsReady, jsonRoute, metricsRoutes } from '../../observe/server.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { runHouse } from '../house.ts';
import type { ListenAddress } from '../listen-address.ts';
import { dnsPlane } from '../planes.ts';
import { listenAddress, listenAddresses, nodeName, port } from '../settings.ts';
import { chooseSource } from '../source-choice.ts';

export function dns(args: Arguments): Promise<number> {
  const context = createRunningContext(args);
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: chooseSource(args, context),
    kinds: ['services', 'endpointSlices', 'namespaces'],
    planes: [dnsPlane(args, context, listenOn(args))],
    endpoints: [
      {
        what: 'metrics and state',
        listen: listenAddress(args, 'metrics-bind-address', '127.0.0.1:9153'),
        flag: 'metrics-bind-address',
        routes: ({ state }) => [metricsRoutes(context.metrics), jsonRoute('/state', state)],
      },
      {
        what: 'health',
        listen: listenAddress(args, 'health-bind-address', '0.0.0.0:8080'),
        flag: 'health-bind-address',
        routes: () => [coreDnsHealth()],
      },
      {
        what: 'readiness',
        listen: listenAddress(args, 'ready-bind-address', '0.0.0.0:8181'),
        flag: 'ready-bind-address',
        routes: ({ health }) => [coreDnsReady(health)],
      },
    ],
    onPlaneFailure: 'alone',
  });
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
