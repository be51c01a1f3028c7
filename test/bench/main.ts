// `npm run bench -- rules [options]`: the benchmarks. Each prints a table.

import { benchDns } from './dns.ts';
import { benchIngress } from './ingress.ts';
import { benchMemory } from './memory.ts';
import { benchRules } from './rules.ts';
import { benchSoak } from './soak.ts';
import { benchSteady } from './steady.ts';
import { benchUserspace } from './userspace.ts';

const USAGE = `usage: npm run bench -- rules [--mode MODE] [--size SERVICESxENDPOINTS]... [--rounds N] [--changes N] [--no-latency]
       npm run bench -- rules --mode userspace [--rounds N] [--seconds N]
       npm run bench -- dns [--part throughput|churn|memory]... [--mix cluster|search|cached|misses]... [--rounds N] [--seconds N]
       npm run bench -- ingress [--only speed|change|memory]... [--mix MIX]... [--size INGRESSES]... [--rounds N] [--seconds N]
       npm run bench -- steady [--mode MODE] [--only WORDS]
       npm run bench -- soak [--minutes N]
       npm run bench -- memory [--role WORDS] [--source manifests|api] [--size SERVICESxENDPOINTS]...
  rules    first sync, restart, changes and first packet of the rules, against the tool that loads the same ones (as root);
           in userspace mode connections and throughput of the relays, against haproxy and socat
  steady   what a client sees that connects all the time while endpoints, the proxy and the rules change (as root)
  dns      queries per CPU-second and latency against a bare responder, knot, unbound and dnsmasq
  soak     what clients of Ingress see while its configuration changes 20 times a second (10 minutes)
  ingress  requests and WebSocket messages per CPU-second against nginx, HAProxy and http-proxy;
           one change among many Ingresses; memory
  memory   what each role holds at rest, from manifests and from an API server (as root)
`;

const [what, ...options] = process.argv.slice(2);
process.exitCode = await run(what);

async function run(what: string | undefined): Promise<number> {
  if (what === 'rules') return isUserspace(options) ? benchUserspace(options) : benchRules(options);
  if (what === 'dns') return benchDns(options);
  if (what === 'ingress') return benchIngress(options);
  if (what === 'steady') return benchSteady(options);
  if (what === 'soak') return benchSoak(options);
  if (what === 'memory') return benchMemory(options);
  process.stderr.write(USAGE);
  return 2;
}

/** Relays have nothing that another tool loads from a file: they are measured by what they carry. */
function isUserspace(options: readonly string[]): boolean {
  return options.some(
    (word, i) => word === '--mode=userspace' || (word === 'userspace' && options[i - 1] === '--mode'),
  );
}
