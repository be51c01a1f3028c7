// `npm run bench -- rules [options]`: the benchmarks, one a plane. Each prints a table.

import { benchRules } from './rules.ts';

const USAGE = `usage: npm run bench -- rules [--size SERVICESxENDPOINTS]... [--rounds N] [--changes N]
  rules    first sync and changes of the nftables rules, against nft -f of the same maps (as root)
  dns, ingress and memory are not built yet
`;

const [what, ...options] = process.argv.slice(2);
process.exitCode = await run(what);

async function run(what: string | undefined): Promise<number> {
  if (what === 'rules') return benchRules(options);
  const known = what === 'dns' || what === 'ingress' || what === 'memory';
  process.stderr.write(known ? `the ${what} benchmark is not built yet\n${USAGE}` : USAGE);
  return 2;
}
