// The status page: one small HTML page over the state that `/state` gives as JSON.

export interface PageAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** `/`: the page. It is made of the state at each request, and loads nothing from elsewhere. */
export function statusRoutes(state: () => unknown): ReadonlyMap<string, () => PageAnswer> {
  return new Map([['/', () => ({ status: 200, contentType: 'text/html; charset=utf-8', body: statusPage(state()) })]]);
}

export function statusPage(state: unknown): string {
  const snapshot = fieldOf(state, 'snapshot');
  const services = entriesOf(fieldOf(snapshot, 'services'));
  const planes = entriesOf(fieldOf(state, 'planes'));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>fairlead</title><style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a2330; background: #fff }
table { border-collapse: collapse; margin: 0 0 2rem } td, th { border: 1px solid #cdd5df; padding: .25rem .6rem; text-align: left; vertical-align: top }
th { background: #eef2f6 } code, pre { font: 12px/1.5 ui-monospace, monospace } .out { color: #8a5300 }
</style></head><body>
<h1>fairlead ${escape(text(fieldOf(state, 'version')))}</h1>
<p>Revision ${escape(text(fieldOf(snapshot, 'revision')))} on node ${escape(text(fieldOf(fieldOf(snapshot, 'node'), 'name')))}.
 Also: <a href="/state">state as JSON</a>, <a href="/metrics">metrics</a>, <a href="/readyz">readiness</a>.</p>
<h2>Services</h2>
<table><tr><th>ServicePort</th><th>ClusterIP</th><th>Endpoints in use</th><th>Left out</th></tr>
${services.flatMap(([key, service]) => serviceRows(key, service)).join('\n')}
</table>
<h2>Planes</h2>
<table>${planes.map(([name, plane]) => `<tr><th>${escape(name)}</th><td><pre>${escape(JSON.stringify(plane, null, 2))}</pre></td></tr>`).join('\n')}</table>
</body></html>
`;
}

function serviceRows(key: string, service: unknown): readonly string[] {
  const carried = fieldOf(service, 'carried');
  const ports = entriesOf(fieldOf(service, 'ports'));
  if (carried !== true || ports.length === 0) {
    return [row([key, '', escape(carried === true ? 'no ports' : `not carried, ${text(carried)}`), ''])];
  }
  return ports.map(([name, port]) => {
    const cluster = fieldOf(port, 'cluster');
    const set = fieldOf(cluster, 'kind') === 'used' ? cluster : fieldOf(port, 'local');
    const used = listOf(fieldOf(set, 'endpoints')).map(endpointText);
    const out = listOf(fieldOf(set, 'leftOut')).map(
      (entry) => `${endpointText(fieldOf(entry, 'endpoint'))} ${text(fieldOf(entry, 'reason'))}`,
    );
    const address = `${text(fieldOf(port, 'clusterIP'))}:${text(fieldOf(port, 'port'))}`;
    return row([
      name,
      address,
      used.map(escape).join('<br>') || 'none',
      `<span class="out">${out.map(escape).join('<br>')}</span>`,
    ]);
  });
}

function row([name = '', address = '', used = '', out = '']: readonly string[]): string {
  return `<tr><td><code>${escape(name)}</code></td><td><code>${escape(address)}</code></td><td><code>${used}</code></td><td>${out}</td></tr>`;
}

function endpointText(endpoint: unknown): string {
  return `${text(fieldOf(endpoint, 'ip'))}:${text(fieldOf(endpoint, 'port'))}`;
}

function fieldOf(value: unknown, name: string): unknown {
  return entriesOf(value).find(([key]) => key === name)?.[1];
}

function entriesOf(value: unknown): readonly (readonly [string, unknown])[] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

function escape(value: string): string {
  return value.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
