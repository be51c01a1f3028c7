// `fairlead up`: all three planes in one process, beside each other.

import { healthRoutes, jsonRoute, metricsRoutes } from '../../observe/server.ts';
import { KINDS, type Kind } from '../../source/store.ts';
import { statusRoutes } from '../../status/page.ts';
import { keepHeapSmall } from '../../system/heap.ts';
import type { Arguments } from '../args.ts';
import { createRunningContext } from '../context.ts';
import { runHouse } from '../house.ts';
import { dnsPlane, ingressPlane, rulesPlane } from '../planes.ts';
import { flagBlockFinder } from '../../dns/explained-flags.ts';
import { upstreamText } from '../../dns/upstream.ts';
import { explainNameRoutes } from '../explain-name.ts';
import { explainIngressRoutes, explainRoutes } from '../explain-routes.ts';
import { clusterDomain, listenAddress, listenAddresses, nodeName, rulesMode, upstreams, workers } from '../settings.ts';
import { chooseSource, manifestDirs } from '../source-choice.ts';

/** Only the DNS role reads Pods and other clusters' Services, where its Corefile says so. */
const NOT_READ: ReadonlySet<Kind> = new Set(['pods', 'serviceImports', 'importedSlices']);

export function up(args: Arguments): Promise<number> {
  keepHeapSmall();
  const context = createRunningContext(args);
  const rules = rulesPlane(args, context, { mode: rulesMode(args, 'userspace'), removeOnStop: true });
  const ingress = ingressPlane(args, context, {
    http: listenAddress(args, 'http-bind-address', '127.0.0.1:8080'),
    https: listenAddress(args, 'https-bind-address', '127.0.0.1:8443'),
    sslRedirect: false,
    workers: workers(args, 0),
    lenientClass: manifestDirs(args).length > 0,
  });
  const dnsServers = upstreams(args)?.map(upstreamText) ?? ['the servers of /etc/resolv.conf'];
  const dnsBlock = flagBlockFinder(clusterDomain(args), dnsServers);
  return runHouse({
    context,
    nodeName: nodeName(args, context.hostname),
    source: chooseSource(args, context),
    kinds: KINDS.filter((kind) => !NOT_READ.has(kind)),
    planes: [
      rules,
      // One process for everything is a small one: a thread for DNS costs it more memory than the queries of a node ask for.
      dnsPlane(args, context, listenAddresses(args, 'dns-bind-address', ['127.0.0.1:1053']), workers(args, 0)),
      ingress,
    ],
    endpoints: [
      {
        what: 'metrics, health and the status page',
        listen: listenAddress(args, 'metrics-bind-address', '127.0.0.1:10249'),
        flag: 'metrics-bind-address',
        routes: ({ health, state, snapshot }) => [
          statusRoutes(state),
          metricsRoutes(context.metrics),
          healthRoutes(health),
          jsonRoute('/state', state),
          explainRoutes({ ...rules, snapshot, zone: clusterDomain(args), readsIngresses: true }),
          explainIngressRoutes((url) => ingress.plane()?.explain(url)),
          explainNameRoutes(snapshot, () => dnsBlock),
        ],
      },
    ],
    onPlaneFailure: 'together',
  });
}
