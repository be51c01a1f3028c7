import { DEFAULT_SELECTION } from '../../../src/ingress/class-selection.ts';
import { route, type RouteAnswer } from '../../../src/ingress/match.ts';
import { compileRoutes, type RouteTable } from '../../../src/ingress/route-table.ts';
import { setDifference, type Consumer, type Start } from './consumer.ts';
import { endpointList, endpointText, isNothing } from './expect.ts';
import type { Row } from './parse.ts';
import { walk } from './run.ts';

/** As over a folder of manifests: Ingresses without a class count, and those that name ours without an IngressClass. */
const SELECTION = { ...DEFAULT_SELECTION, watchIngressWithoutClass: true, ingressClassByName: true };

const start: Start = async () => {
  let table: RouteTable | undefined;
  return {
    update: async ({ snapshot }) => void (table = compileRoutes(snapshot, SELECTION, table)),
    check: async (_kind, row) => table && checkRow(table, row),
    nothingRemains: async () => (table?.hosts.size === 0 ? undefined : `${table?.hosts.size} hosts remain`),
    stop: async () => {},
  };
};

/** Holds `http` tables against the route table. `to` are the endpoints that may get the request. */
export const httpConsumer: Consumer = {
  name: 'http',
  reads: ['http'],
  missing: () => undefined,
  run: (scenario) => walk(scenario, httpConsumer, start),
};

function checkRow(table: RouteTable, row: Row): string | undefined {
  const request = row.cells['request'] ?? '';
  const match = /^(?:[A-Z]+ )?(https?):\/\/([^/]+)(\/\S*)?$/.exec(request);
  if (!match) return `"${request}" is not METHOD URL`;
  const scheme = match[1] === 'https' ? 'https' : 'http';
  const answer = route(table, { scheme, host: match[2] ?? '', path: match[3] ?? '/' });
  const status = String(statusOf(answer));
  if (row.cells['status'] !== undefined && row.cells['status'] !== status) {
    return `${request}: expected ${row.cells['status']}, got ${status}`;
  }
  const cell = row.cells['to'];
  if (cell === undefined) return undefined;
  const actual = answer.kind === 'backend' ? answer.endpoints.map(endpointText) : [];
  const difference = setDifference(isNothing(cell) ? [] : endpointList(cell), actual);
  return difference && `${request}: ${difference}`;
}

/** What an endpoint that answers 200 would make the client see. */
function statusOf(answer: RouteAnswer): number {
  return answer.kind === 'status' ? answer.status : 200;
}
