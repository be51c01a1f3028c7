// `explain name`: what the DNS plane would answer, and why, of a folder or of a running process.

import { explainName, nameExplanationText, type ExplainedBlock, type NameExplanation } from '../dns/explain.ts';
import { zoneOf } from '../dns/corefile/words.ts';
import { lowerName, parseName, type DnsName } from '../dns/wire/name.ts';
import { zoneDump } from '../dns/zone-dump.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Route, Routes } from '../observe/server.ts';
import type { HttpAnswer } from '../system/http-server.ts';
import { UsageError } from './errors.ts';

export type BlockOf = (name: DnsName) => ExplainedBlock | undefined;

/** As Kubernetes writes it into every Pod's resolv.conf. */
const NDOTS = 5;

/** The words of a question, from flags or from a query. */
export interface NameWords {
  readonly name: string;
  readonly type?: string | undefined;
  readonly namespace?: string | undefined;
}

/** Throws UsageError for what is no name or no type. */
export function nameExplanation(words: NameWords, snapshot: Snapshot, blockOf: BlockOf): NameExplanation {
  const { name, type = 'A', namespace = 'default' } = words;
  const explained = explainName({ name, type, namespace, ndots: NDOTS }, snapshot, blockOf);
  if (explained.kind === 'mistake') throw new UsageError(explained.message);
  return explained.explanation;
}

/** `/explain/name?name=NAME&type=TYPE&namespace=NS` and `/debug/zone?zone=NAME&namespace=NS`: 400 for wrong words, 503 before the first Snapshot. */
export function explainNameRoutes(snapshot: () => Snapshot | undefined, blockOf: () => BlockOf): Routes {
  return new Map<string, Route>([
    [
      '/explain/name',
      ({ query }) => {
        const now = snapshot();
        if (!now) return plain(503, 'nothing is known yet: the source has not been read whole\n');
        const word = (key: string): string | undefined => query.get(key) ?? undefined;
        try {
          const words = { name: word('name') ?? '', type: word('type'), namespace: word('namespace') };
          const explanation = nameExplanation(words, now, blockOf());
          if (query.get('output') !== 'json') return plain(200, nameExplanationText(explanation));
          return { status: 200, contentType: 'application/json', body: `${JSON.stringify(explanation, null, 2)}\n` };
        } catch (error) {
          if (error instanceof UsageError) return plain(400, `${error.message}\n`);
          throw error;
        }
      },
    ],
    [
      '/debug/zone',
      ({ query }) => {
        const now = snapshot();
        if (!now) return plain(503, 'nothing is known yet: the source has not been read whole\n');
        const word = query.get('zone') ?? 'cluster.local';
        const name = parseName(word);
        const block = name && blockOf()(lowerName(name));
        const options = block?.kubernetes.find(({ origin }) => name && zoneOf(lowerName(name), [origin]) !== undefined);
        if (!options) return plain(404, `${word} is no zone of the cluster; give one with ?zone=NAME\n`);
        const dump = zoneDump(now, options, query.get('namespace') ?? undefined);
        return { status: 200, contentType: 'application/json', body: `${JSON.stringify(dump, null, 2)}\n` };
      },
    ],
  ]);
}

function plain(status: number, body: string): HttpAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body };
}
