// `fairlead explain service NS/NAME`, `explain ingress URL` and `explain name NAME`: why things are as they are, of a folder or of a running process.

import { configFor } from '../../rules/config.ts';
import { defaultGlobals, routingOptions } from '../../ingress/routing-options.ts';
import { compileRoutes } from '../../ingress/route-table.ts';
import { explainUrl, readUrl, type ExplainedUrl, type IngressExplanation } from '../../ingress/explain.ts';
import type { Arguments } from '../args.ts';
import { asksFolder, askProcess } from '../ask.ts';
import { createContext, type Context } from '../context.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import { nameExplanationText } from '../../dns/explain.ts';
import { ingressExplanationText } from '../explain-ingress.ts';
import { nameExplanation, type BlockOf } from '../explain-name.ts';
import { explainService, explanationText } from '../explain-service.ts';
import { routingFlags } from '../ingress-settings.ts';
import { clusterDomain, objectFlag, output, rulesConfig } from '../settings.ts';
import { loadSnapshot } from './render.ts';

const USAGE =
  'usage: fairlead explain service NAMESPACE/NAME [FLAGS], fairlead explain ingress URL [FLAGS], or fairlead explain name NAME [FLAGS]';

type Question =
  | { readonly kind: 'service'; readonly key: string }
  | { readonly kind: 'ingress'; readonly text: string; readonly url: ExplainedUrl }
  | { readonly kind: 'name'; readonly name: string };

export async function explain(args: Arguments): Promise<number> {
  const question = questionOf(args.operands);
  const format = output(args);
  const context = createContext(args);
  if (!asksFolder(args)) {
    const query = new URLSearchParams({ output: format });
    if (question.kind === 'service') query.set('service', question.key);
    else if (question.kind === 'ingress') query.set('url', question.text);
    else for (const [key, value] of Object.entries(nameWords(args, question.name))) query.set(key, value);
    context.out(await askProcess(args, `/explain/${question.kind}?${query.toString()}`));
    return EXIT_STOPPED;
  }
  const config = configFor('nftables', rulesConfig(args));
  const zone = clusterDomain(args);
  const command = routingCommand(args);
  const configMap = objectFlag(args, 'configmap');
  const snapshot = await loadSnapshot(args, context);
  const tell = <T>(explanation: T, text: (explanation: T) => string): void =>
    context.out(format === 'json' ? `${JSON.stringify(explanation, null, 2)}\n` : text(explanation));
  if (question.kind === 'service') {
    tell(await explainService(question.key, { snapshot, config, zone, readsIngresses: true }), explanationText);
  } else if (question.kind === 'name') {
    const blockOf = await blocksOf(args, context);
    tell(nameExplanation(nameWords(args, question.name), snapshot, blockOf), nameExplanationText);
  } else {
    const map = configMap === undefined ? undefined : snapshot.configMaps.get(configMap);
    if (configMap !== undefined && !map) {
      throw new UsageError(`flag --configmap: the folder has no ConfigMap ${configMap}`);
    }
    const explained = (as: RoutingCommand): IngressExplanation => {
      // As each of the two sets it: `up` is for a laptop, where nothing listens on 443.
      const flags = routingFlags(args, { sslRedirect: as === 'ingress', lenientClass: true });
      return explainUrl(compileRoutes(snapshot, routingOptions(flags, defaultGlobals(flags), map)), question.url);
    };
    const other = command === 'ingress' ? 'up' : 'ingress';
    const { answer, status } = explained(other);
    tell({ ...explained(command), as: { command, other: { command: other, answer, status } } }, ingressExplanationText);
  }
  return EXIT_STOPPED;
}

type RoutingCommand = 'ingress' | 'up';

/** `--as`: whose answer is explained. */
function routingCommand(args: Arguments): RoutingCommand {
  const text = args.text('as') ?? 'ingress';
  if (text === 'ingress' || text === 'up') return text;
  throw new UsageError(`flag --as is ingress or up, not "${text}"`);
}

function nameWords(args: Arguments, name: string): { readonly name: string } & Record<string, string> {
  const [type, namespace] = [args.text('type'), args.text('namespace')];
  return { name, ...(type === undefined ? {} : { type }), ...(namespace === undefined ? {} : { namespace }) };
}

/** The server blocks of the Corefile that is given, or the one that flags make. */
async function blocksOf(args: Arguments, context: Context): Promise<BlockOf> {
  const path = args.text('conf');
  if (path === undefined) {
    const { flagBlockFinder } = await import('../../dns/explained-flags.ts');
    return flagBlockFinder(clusterDomain(args), ['the servers of /etc/resolv.conf']);
  }
  const { blockFinder } = await import('../../dns/explained-block.ts');
  const { loadCorefile } = await import('../../dns/corefile/load.ts');
  const loaded = await loadCorefile({ path, files: context.files, env: (name) => process.env[name] });
  if (loaded.kind === 'mistake') throw new UsageError(loaded.message);
  return blockFinder(loaded.corefile.blocks);
}

function questionOf([what, name, ...rest]: readonly string[]): Question {
  if ((what !== 'service' && what !== 'ingress' && what !== 'name') || name === undefined || rest.length > 0)
    throw new UsageError(USAGE);
  if (what === 'name') return { kind: 'name', name };
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
