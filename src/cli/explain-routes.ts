// `/explain/service`, `/explain/ingress` and `/trace` of a running process: the same code as for a folder, over its own Snapshot, configuration and mode.

import { readUrl, type ExplainedUrl, type IngressExplanation } from '../ingress/explain.ts';
import type { Snapshot } from '../model/snapshot.ts';
import type { Route, Routes } from '../observe/server.ts';
import type { RulesMode } from '../rules/backend.ts';
import type { RulesConfig } from '../rules/config.ts';
import type { HttpAnswer, HttpRequest } from '../system/http-server.ts';
import { interfaceAddresses } from '../system/interfaces.ts';
import { CommandError, UsageError } from './errors.ts';
import { ingressExplanationText } from './explain-ingress.ts';
import { explainService, explanationText } from './explain-service.ts';
import { traceText, tracePacket } from './trace-packet.ts';

export interface ExplainRoutesOptions {
  readonly snapshot: () => Snapshot | undefined;
  /** As it is now. */
  readonly config: () => RulesConfig;
  /** Undefined until it is chosen. */
  readonly mode: () => RulesMode | undefined;
  readonly zone: string;
  readonly readsIngresses: boolean;
}

/** Queries: `service=NS/NAME`; `from=SRC&to=DST`; `output=json` for JSON. 400 for wrong words, 404 for what is unknown, 503 before the first Snapshot. */
export function explainRoutes(options: ExplainRoutesOptions): Routes {
  const { zone, readsIngresses } = options;
  return new Map<string, Route>([
    [
      '/explain/service',
      answering(options, async (query, snapshot, mode) => {
        const key = query.get('service') ?? '';
        const explanation = await explainService(key, {
          snapshot,
          config: options.config(),
          modes: [mode],
          zone,
          readsIngresses,
        });
        return { text: () => explanationText(explanation), value: explanation };
      }),
    ],
    [
      '/trace',
      answering(options, async (query, snapshot, mode) => {
        const [from, to] = [query.get('from') ?? '', query.get('to') ?? ''];
        const trace = tracePacket(from, to, { snapshot, config: options.config(), mode, own: interfaceAddresses() });
        return { text: () => traceText(trace), value: trace };
      }),
    ],
  ]);
}

/** `/explain/ingress?url=URL`: 400 for what is no URL, 503 before the first Snapshot. */
export function explainIngressRoutes(explain: (url: ExplainedUrl) => IngressExplanation | undefined): Routes {
  return new Map<string, Route>([
    [
      '/explain/ingress',
      ({ query }) => {
        const url = readUrl(query.get('url') ?? '');
        if (!url) return plain(400, 'a URL is http://HOST/PATH or https://HOST/PATH\n');
        const explanation = explain(url);
        if (!explanation) return plain(503, 'nothing is known yet: the source has not been read whole\n');
        if (query.get('output') !== 'json') return plain(200, ingressExplanationText(explanation));
        return { status: 200, contentType: 'application/json', body: `${JSON.stringify(explanation, null, 2)}\n` };
      },
    ],
  ]);
}

interface Told {
  readonly text: () => string;
  readonly value: unknown;
}

function answering(
  { snapshot, mode }: ExplainRoutesOptions,
  tell: (query: URLSearchParams, snapshot: Snapshot, mode: RulesMode) => Promise<Told>,
): Route {
  return async ({ query }: HttpRequest) => {
    const [now, chosen] = [snapshot(), mode()];
    if (!now || !chosen) return plain(503, 'nothing is known yet: the source has not been read whole\n');
    try {
      const told = await tell(query, now, chosen);
      if (query.get('output') !== 'json') return plain(200, told.text());
      return { status: 200, contentType: 'application/json', body: `${JSON.stringify(told.value, null, 2)}\n` };
    } catch (error) {
      if (error instanceof UsageError) return plain(400, `${error.message}\n`);
      if (error instanceof CommandError) return plain(404, `${error.message}\n`);
      throw error;
    }
  };
}

function plain(status: number, body: string): HttpAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body };
}
