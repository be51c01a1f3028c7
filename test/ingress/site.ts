// One Ingress with annotations in front of an echo backend, and requests to it.

import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { httpPort, startBackend, startPlane, type TestBackend } from './plane.ts';
import { ingress, service, snapshot, type IngressSpec, type PathSpec, type World } from './world.ts';

export interface Asked {
  readonly method?: string;
  readonly host?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** What the echo backend saw. */
  readonly seen: { readonly url: string; readonly method: string; readonly headers: Record<string, string> };
}

export function ask(
  port: number,
  { method = 'GET', host = 'a.example', path = '/', headers = {}, body }: Asked,
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, method, path, headers: { ...headers, host }, agent: false };
    const request = httpRequest(options, (response) => {
      let text = '';
      response.setEncoding('latin1');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => {
        const seen = (text.startsWith('{') ? JSON.parse(text) : { url: '', method: '', headers: {} }) as Got['seen'];
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, seen });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

export interface Site {
  readonly port: number;
  readonly backend: TestBackend;
  readonly ask: (asked?: Asked) => Promise<Got>;
  readonly update: (annotations: Record<string, string>, more?: Partial<World>) => void;
}

/** One Ingress for a.example with these annotations. */
export async function site(
  annotations: Record<string, string>,
  spec: Partial<IngressSpec> & { readonly paths?: readonly PathSpec[] } = {},
  more: Partial<World> & { readonly settings?: Readonly<Record<string, string>> } = {},
): Promise<Site> {
  const plane = await startPlane({ sslRedirect: true, configMap: 'system/settings' });
  const backend = await startBackend();
  const update = (next: Record<string, string>, others: Partial<World> = {}): void =>
    plane.update(
      snapshot({
        ingresses: [
          ingress({
            name: 'a',
            rules: [{ host: 'a.example', paths: spec.paths ?? [{ service: 'echo' }] }],
            annotations: next,
            ...spec,
          }),
          ...(others.ingresses ?? []),
        ],
        services: [service({ name: 'echo', endpoints: [backend.address] }), ...(others.services ?? [])],
        secrets: others.secrets ?? [],
        configMaps: [
          { namespace: 'system', name: 'settings', data: new Map(Object.entries(more.settings ?? {})) },
          ...(others.configMaps ?? []),
        ],
      }),
    );
  update(annotations, more);
  const port = httpPort(plane);
  return { port, backend, update, ask: (asked = {}) => ask(port, asked) };
}
