// `npm run scenarios -- [FILE|DIR ...] [--on model,intent,…]`: runs any scenarios, ours or somebody else's.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CONSUMERS } from './support/scenario/consumers.ts';
import type { Consumer } from './support/scenario/consumer.ts';
import { parseScenario, ScenarioError } from './support/scenario/parse.ts';
import { concerns } from './support/scenario/run.ts';

const OURS = fileURLToPath(new URL('./scenarios', import.meta.url));

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const consumers = chosenConsumers(words);
  if (typeof consumers === 'string') return usage(consumers);
  const paths = words.filter((word, i) => !word.startsWith('--') && words[i - 1] !== '--on');
  const files: string[] = [];
  for (const path of paths.length > 0 ? paths : [OURS]) {
    const found = scenarioFiles(path);
    if (!found) return usage(`${path}: no such file or folder`);
    files.push(...found);
  }
  if (files.length === 0) return usage('no scenario (*.md) there');
  const usable = consumers.filter(({ name, missing }) => {
    const reason = missing();
    if (reason !== undefined) console.log(`left out: ${name}: ${reason}`);
    return reason === undefined;
  });
  let failed = 0;
  let checked = 0;
  for (const file of files) {
    const outcome = await runFile(file, usable);
    checked += outcome.checked;
    if (outcome.failures.length > 0) failed++;
    for (const failure of outcome.failures) console.log(failure);
  }
  for (const { close } of usable) await close?.();
  console.log(`${files.length - failed} of ${files.length} scenarios hold, ${checked} checks`);
  return failed === 0 ? 0 : 1;
}

async function runFile(file: string, consumers: readonly Consumer[]): Promise<{ checked: number; failures: string[] }> {
  const failures: string[] = [];
  let checked = 0;
  try {
    const scenario = parseScenario(file, readFileSync(file, 'utf8'));
    for (const consumer of consumers) {
      if (!concerns(scenario, consumer)) continue;
      const result = await consumer.run(scenario);
      checked += result.checked;
      failures.push(...result.failures);
    }
  } catch (error) {
    failures.push(error instanceof ScenarioError ? error.message : `${file}: ${String(error)}`);
  }
  return { checked, failures };
}

function chosenConsumers(words: readonly string[]): readonly Consumer[] | string {
  const unknown = words.find((word) => word.startsWith('--') && word !== '--on' && !word.startsWith('--on='));
  if (unknown !== undefined) return `unknown flag ${unknown}`;
  const at = words.findIndex((word) => word === '--on' || word.startsWith('--on='));
  if (at < 0) return CONSUMERS;
  const value = words[at]?.includes('=') ? words[at].slice('--on='.length) : words[at + 1];
  if (value === undefined || value === '') return '--on needs a list';
  const names = value.split(',').map((name) => name.trim());
  for (const name of names) {
    if (!CONSUMERS.some((consumer) => consumer.name === name)) return `--on ${name}: there is no such consumer`;
  }
  return CONSUMERS.filter(({ name }) => names.includes(name));
}

function scenarioFiles(path: string): readonly string[] | undefined {
  const status = statSync(path, { throwIfNoEntry: false });
  if (!status) return undefined;
  if (status.isFile()) return [path];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md') && !name.endsWith('README.md'))
    .sort()
    .map((name) => join(path, name));
}

function usage(problem: string): number {
  console.error(
    `${problem}\nUsage: npm run scenarios -- [FILE|DIR ...] [--on ${CONSUMERS.map(({ name }) => name).join(',')}]`,
  );
  return 2;
}
