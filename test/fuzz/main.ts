// `npm run fuzz -- dns|http|rules [--cases N] [--seed N]`: malformed input by the million, and changes of a cluster by the thousand, with a seed to come back to.

import { parseArgs } from 'node:util';

interface Outcome {
  readonly cases: number;
  readonly seconds: number;
  readonly heapGrowthBytes?: number;
}

const TARGETS: Readonly<Record<string, (options: { cases: number; seed: number }) => Promise<Outcome>>> = {
  dns: async (options) => (await import('./dns.ts')).fuzzDns(options),
  rules: async (options) => (await import('./rules.ts')).fuzzRules(options),
  http: async (options) => (await import('./http.ts')).fuzzHttp(options),
};

const USAGE = `Usage: npm run fuzz -- ${Object.keys(TARGETS).join('|')} [--cases N] [--seed N]`;

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: { cases: { type: 'string', default: '1000000' }, seed: { type: 'string', default: String(Date.now()) } },
    });
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
  const [name = '', ...rest] = parsed.positionals;
  const target = TARGETS[name];
  if (!target || rest.length > 0)
    return usage(name === '' ? 'what is to be fuzzed?' : `there is no target "${parsed.positionals.join(' ')}"`);
  const [cases, seed] = [Number(parsed.values.cases), Number(parsed.values.seed)];
  if (!Number.isInteger(cases) || cases < 1 || !Number.isInteger(seed))
    return usage('--cases and --seed are whole numbers');
  console.log(`fuzzing ${name}: ${cases} cases, seed ${seed}`);
  const outcome = await target({ cases, seed });
  for (const [key, value] of Object.entries(outcome))
    console.log(`  ${key}: ${typeof value === 'number' ? Math.round(value * 100) / 100 : JSON.stringify(value)}`);
  return 0;
}

function usage(problem: string): number {
  console.error(`${problem}\n${USAGE}`);
  return 2;
}
