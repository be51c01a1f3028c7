// Fields of every answer that the ConfigMap asks for: HSTS over HTTPS, add-headers, and hide-headers, which take away.

import { headerLines } from './annotations/custom-headers.ts';
import { DEFAULT_GLOBALS } from './global-settings.ts';
import type { AnswerLines } from './http/forward.ts';
import type { RouteTable } from './route-table.ts';

export interface EveryAnswer {
  readonly plain: AnswerLines | undefined;
  readonly secure: AnswerLines | undefined;
  /** Why add-headers cannot be carried out. */
  readonly problem: string | undefined;
}

export function everyAnswer({ selection, snapshot }: Pick<RouteTable, 'selection' | 'snapshot'>): EveryAnswer {
  const { hsts, addHeaders, hideHeaders, messages } = selection.globals ?? DEFAULT_GLOBALS;
  const map = addHeaders === undefined ? undefined : snapshot.configMaps.get(addHeaders);
  const added = map && headerLines(map, undefined);
  const server = messages.ownServer && !messages.backendServer ? 'Server: fairlead\r\n' : '';
  const lines = (added?.kind === 'lines' ? added.lines : '') + server;
  const names = added?.kind === 'lines' ? added.names : [];
  const missing = addHeaders !== undefined && !map ? `the ConfigMap ${addHeaders} does not exist` : undefined;
  const common: AnswerLines = { dropped: [...hideHeaders, ...names], fields: lines };
  const secure: AnswerLines =
    hsts === undefined
      ? common
      : {
          dropped: [...common.dropped, 'strict-transport-security'],
          fields: `${lines}Strict-Transport-Security: ${hsts}\r\n`,
        };
  return { plain: some(common), secure: some(secure), problem: added?.kind === 'bad' ? added.reason : missing };
}

function some(lines: AnswerLines): AnswerLines | undefined {
  return lines.fields === '' && lines.dropped.length === 0 ? undefined : lines;
}
