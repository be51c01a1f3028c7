// `fairlead explain service NS/NAME` and `explain ingress URL`: why traffic goes where it goes, of a folder or of a running process.

import { configFor } from '../../rules/config.ts';
import { defaultGlobals, routingOptions } from '../../ingress/routing-options.ts';
import { compileRoutes } from '../../ingress/route-table.ts';
import { explainUrl, readUrl, type ExplainedUrl } from '../../ingress/explain.ts';
import type { Arguments } from '../args.ts';
import { asksFolder, askProcess } from '../ask.ts';
import { createContext } from '../context.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import { ingressExplanationText } from '../explain-ingress.ts';
import { explainService, explanationText } from '../explain-service.ts';
import { routingFlags } from '../ingress-settings.ts';
import { clusterDomain, objectFlag, output, rulesConfig } from '../settings.ts';
import { loadSnapshot } from './render.ts';

const USAGE = 'usage: fairlead explain service NAMESPACE/NAME [FLAGS], or fairlead explain ingress URL [FLAGS]';

type Question =
  | { readonly kind: 'service'; readonly key: string }
  | { readonly kind: 'ingress'; readonly text: string; readonly url: ExplainedUrl };

export async function explain(args: Arguments): Promise<number> {
  const question = questionOf(args.operands);
  const format = output(args);
  const context = createContext(args);
  if (!asksFolder(args)) {
    const query = new URLSearchParams({ output: format });
    if (question.kind === 'service') query.set('service', question.key);
    else query.set('url', question.text);
    context.out(await askProcess(args, `/explain/${question.kind}?${query.toString()}`));
    return EXIT_STOPPED;
  }
  const config = configFor('nftables', rulesConfig(args));
  const zone = clusterDomain(args);
  const flags = routingFlags(args, { sslRedirect: true, lenientClass: true });
  const configMap = objectFlag(args, 'configmap');
  const snapshot = await loadSnapshot(args, context);
  const tell = <T>(explanation: T, text: (explanation: T) => string): void =>
    context.out(format === 'json' ? `${JSON.stringify(explanation, null, 2)}\n` : text(explanation));
  if (question.kind === 'service') {
    tell(await explainService(question.key, { snapshot, config, zone, readsIngresses: true }), explanationText);
  } else {
    const map = configMap === undefined ? undefined : snapshot.configMaps.get(configMap);
    if (configMap !== undefined && !map) {
      throw new UsageError(`flag --configmap: the folder has no ConfigMap ${configMap}`);
    }
    const table = compileRoutes(snapshot, routingOptions(flags, defaultGlobals(flags), map));
    tell(explainUrl(table, question.url), ingressExplanationText);
  }
  return EXIT_STOPPED;
}

function questionOf([what, name, ...rest]: readonly string[]): Question {
  if (what === 'name') {
    throw new UsageError(`\`fairlead explain name\` is not built yet. There is: explain service, explain ingress.`);
  }
  if ((what !== 'service' && what !== 'ingress') || name === undefined || rest.length > 0) throw new UsageError(USAGE);
  if (what === 'ingress') {
    const url = readUrl(name);
    if (url) return { kind: 'ingress', text: name, url };
    throw new UsageError(`a URL is http://HOST/PATH or https://HOST/PATH, not "${name}"`);
  }
  if (!/^[^/\s]+(\/[^/\s]+)?$/.test(name)) {
    throw new UsageError(`a Service is NAMESPACE/NAME (or NAME in namespace default), not "${name}"`);
  }
  return { kind: 'service', key: name.includes('/') ? name : `default/${name}` };
}
