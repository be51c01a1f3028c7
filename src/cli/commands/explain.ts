// `fairlead explain service NS/NAME`: why its traffic goes where it goes, of a folder or of a running process.

import type { Arguments } from '../args.ts';
import { asksFolder, askProcess } from '../ask.ts';
import { createContext } from '../context.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import { explainService, explanationText } from '../explain-service.ts';
import { clusterDomain, output, rulesConfig } from '../settings.ts';
import { loadSnapshot } from './render.ts';

export async function explain(args: Arguments): Promise<number> {
  const key = serviceKey(args.operands);
  const format = output(args);
  const context = createContext(args);
  if (!asksFolder(args)) {
    const query = new URLSearchParams({ service: key, output: format });
    context.out(await askProcess(args, `/explain/service?${query.toString()}`));
    return EXIT_STOPPED;
  }
  const config = rulesConfig(args);
  const zone = clusterDomain(args);
  const snapshot = await loadSnapshot(args, context);
  const explanation = await explainService(key, { snapshot, config, zone, readsIngresses: true });
  context.out(format === 'json' ? `${JSON.stringify(explanation, null, 2)}\n` : explanationText(explanation));
  return EXIT_STOPPED;
}

function serviceKey([what, name, ...rest]: readonly string[]): string {
  if (what === 'ingress' || what === 'name') {
    throw new UsageError(`\`fairlead explain ${what}\` is not built yet. There is: explain service NAMESPACE/NAME.`);
  }
  if (what !== 'service' || name === undefined || rest.length > 0) {
    throw new UsageError('usage: fairlead explain service NAMESPACE/NAME [FLAGS]');
  }
  if (!/^[^/\s]+(\/[^/\s]+)?$/.test(name)) {
    throw new UsageError(`a Service is NAMESPACE/NAME (or NAME in namespace default), not "${name}"`);
  }
  return name.includes('/') ? name : `default/${name}`;
}
