// The proxies that the Ingress benchmark compares, each in front of the same backend with the same forwarding fields.

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { selfSigned } from '../../src/ingress/self-signed.ts';
import type { Json } from '../support/api-server/json.ts';
import { until } from '../support/until.ts';

const ENTRY = fileURLToPath(new URL('../../src/cli/entry.js', import.meta.url));
const BASELINE = fileURLToPath(new URL('./http-proxy-child.js', import.meta.url));
/** Proxies run on this CPU; the backend and the load generator on the other. */
const PROXY_CPU = '0';
export const LOAD_CPU = '1';

/** Of util-linux. */
const PIN = 'taskset';

export interface Ports {
  readonly http: number;
  readonly https: number;
}

export interface ProxyKind {
  readonly name: string;
  /** It speaks TLS and HTTP/2 here. */
  readonly secure: boolean;
  /** The command; files go into `folder`. */
  command(folder: string, ports: Ports, backend: number): readonly string[];
}

export interface RunningProxy {
  readonly kind: ProxyKind;
  readonly ports: Ports;
  readonly pid: number;
  stop(): Promise<void>;
}

export interface HostSpec {
  readonly host: string;
  readonly path: string;
}

/** Ingress objects of these hosts, with the backend's Service and its endpoint. */
export function hostObjects(hosts: readonly HostSpec[], backend: number, secretOf: (i: number) => string): Json[] {
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'echo' },
    spec: { selector: {}, ports: [{ name: '', protocol: 'TCP', port: 80 }] },
  };
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'echo', labels: { 'kubernetes.io/service-name': 'echo' } },
    addressType: 'IPv4',
    ports: [{ name: '', protocol: 'TCP', port: backend }],
    endpoints: [{ addresses: ['127.0.0.1'], conditions: { ready: true } }],
  };
  const objects = hosts.map(({ host, path }, i) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: {
      name: `host-${i}`,
      annotations: {
        'nginx.ingress.kubernetes.io/ssl-redirect': 'false',
        'nginx.ingress.kubernetes.io/proxy-body-size': '0',
      },
    },
    spec: {
      tls: [{ hosts: [host], secretName: secretOf(i) }],
      rules: [
        {
          host,
          http: {
            paths: [{ path, pathType: 'Prefix', backend: { service: { name: 'echo', port: { number: 80 } } } }],
          },
        },
      ],
    },
  }));
  // As the peers here: no access log, and connections that live as long as the client likes.
  const settings = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'settings' },
    data: { 'disable-access-log': 'true', 'keep-alive-requests': '1000000' },
  };
  return [service, slice, settings, ...objects];
}

export function secretObject(name: string): Json {
  const { cert, key } = selfSigned('bench.example', ['*.example'], Date.now(), 30);
  const data = { 'tls.crt': Buffer.from(cert).toString('base64'), 'tls.key': Buffer.from(key).toString('base64') };
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, type: 'kubernetes.io/tls', data };
}

/** Objects as one file of a folder. */
function fileOf(objects: readonly Json[]): string {
  return objects.map((object) => JSON.stringify(object)).join('\n---\n');
}

export const FAIRLEAD: ProxyKind = {
  name: 'fairlead',
  secure: true,
  command: (folder, ports, backend) => {
    const objects = join(folder, 'manifests');
    mkdirSync(objects, { recursive: true });
    const hosts = [{ host: 'bench.example', path: '/' }];
    writeFileSync(
      join(objects, 'all.yaml'),
      fileOf([...hostObjects(hosts, backend, () => 'tls'), secretObject('tls')]),
    );
    return fairleadCommand(['--manifests', objects], ports);
  },
};

/** `source`: the flags that say where objects come from. */
export function fairleadCommand(source: readonly string[], ports: Ports): readonly string[] {
  const flags = ['--http-port', ports.http, '--https-port', ports.https, '--healthz-port', ports.http + 5].map(String);
  return [process.execPath, ENTRY, 'ingress', '--configmap', 'default/settings', ...source, ...flags];
}

/** Writes certificate and key; returns the folder. */
export function pemFiles(folder: string): string {
  const { cert, key } = selfSigned('bench.example', ['bench.example'], Date.now(), 30);
  writeFileSync(join(folder, 'cert.pem'), cert);
  writeFileSync(join(folder, 'key.pem'), key);
  writeFileSync(join(folder, 'both.pem'), cert + key);
  return folder;
}

/** nginx as ingress-nginx configures it. */
export function nginxText(folder: string, ports: Ports, backend: number, hosts: readonly HostSpec[]): string {
  const location = (path: string) => `
      location ${path} {
        proxy_pass http://backend; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering on;
        proxy_set_header Host $http_host; proxy_set_header Connection $connection_upgrade;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header X-Request-ID $request_id;
        proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port;
        proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Scheme $scheme;
        proxy_set_header X-Scheme $scheme; proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
        proxy_set_header Proxy "";
      }`;
  const servers = hosts.map(
    ({ host, path }) => `
    server {
      listen 127.0.0.1:${ports.http}; listen 127.0.0.1:${ports.https} ssl http2; server_name ${host};
      ssl_certificate ${folder}/cert.pem; ssl_certificate_key ${folder}/key.pem;${location(path)}
    }`,
  );
  return `
  user root; worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
  events { worker_connections 16384; multi_accept on; }
  http {
    access_log off; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; client_max_body_size 0;
    fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
    keepalive_requests 1000000; server_names_hash_bucket_size 128; server_names_hash_max_size 65536;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:SSL:10m; ssl_session_tickets off;
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    upstream backend { server 127.0.0.1:${backend}; keepalive 320; keepalive_requests 1000000; }
    ${servers.join('')}
  }`;
}

export const NGINX: ProxyKind = {
  name: 'nginx',
  secure: true,
  command: (folder, ports, backend) => {
    const text = nginxText(pemFiles(folder), ports, backend, [{ host: 'bench.example', path: '/' }]);
    writeFileSync(join(folder, 'nginx.conf'), text);
    return ['nginx', '-c', join(folder, 'nginx.conf')];
  },
};

export const HAPROXY: ProxyKind = {
  name: 'haproxy',
  secure: true,
  command: (folder, ports, backend) => {
    const text = `
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend all
  bind 127.0.0.1:${ports.http}
  bind 127.0.0.1:${ports.https} ssl crt ${pemFiles(folder)}/both.pem alpn h2,http/1.1
  http-request set-header X-Request-ID %[rand(1000000000)]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Scheme http
  default_backend echo
backend echo
  http-reuse always
  server one 127.0.0.1:${backend}
`;
    writeFileSync(join(folder, 'haproxy.cfg'), text);
    return ['haproxy', '-db', '-f', join(folder, 'haproxy.cfg')];
  },
};

export const HTTP_PROXY: ProxyKind = {
  name: 'http-proxy',
  secure: false,
  command: (_folder, ports, backend) => [process.execPath, BASELINE, String(ports.http), String(backend)],
};

/** The backend: nginx with files of 0 B to 1 MB, and a place that takes POST. */
export async function startBackend(folder: string, port: number): Promise<() => Promise<void>> {
  mkdirSync(join(folder, 'files'), { recursive: true });
  for (const [name, size] of [
    ['0', 0],
    ['1k', 1024],
    ['100k', 102_400],
    ['1m', 1_048_576],
  ] as const) {
    writeFileSync(join(folder, 'files', name), 'x'.repeat(size));
  }
  const text = `
  user root; worker_processes 1; daemon off; pid ${folder}/backend.pid; error_log ${folder}/backend.log;
  events { worker_connections 16384; }
  http {
    access_log off; client_body_temp_path ${folder}/bb; proxy_temp_path ${folder}/bp; client_max_body_size 0; client_body_buffer_size 1m;
    fastcgi_temp_path ${folder}/bf; uwsgi_temp_path ${folder}/bu; scgi_temp_path ${folder}/bs;
    keepalive_requests 1000000; sendfile on; open_file_cache max=100; etag off;
    server { listen 127.0.0.1:${port}; root ${folder}/files; add_header X-Backend yes always; location /post { return 200 "ok"; } }
  }`;
  writeFileSync(join(folder, 'backend.conf'), text);
  const child = launch(['nginx', '-c', join(folder, 'backend.conf')], LOAD_CPU);
  await listening(port, child);
  return () => end(child);
}

export async function startProxy(
  kind: ProxyKind,
  folder: string,
  ports: Ports,
  backend: number,
): Promise<RunningProxy> {
  mkdirSync(folder, { recursive: true });
  const child = launch(kind.command(folder, ports, backend), PROXY_CPU);
  await listening(ports.http, child);
  return { kind, ports, pid: child.pid ?? 0, stop: () => end(child) };
}

/** Starts a command on one CPU; `pid` is that of the command itself. */
export function launch(command: readonly string[], cpu: string): ChildProcess {
  return spawn(PIN, ['-c', cpu, ...command], { stdio: ['ignore', 'ignore', 'inherit'] });
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

export async function listening(port: number, child: ChildProcess): Promise<void> {
  await until(
    () => {
      if (child.exitCode !== null) throw new Error(`a server ended with ${child.exitCode}`);
      return new Promise<true | undefined>((resolve) => {
        const socket = connect(port, '127.0.0.1');
        socket.on('connect', () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(undefined));
      });
    },
    30_000,
    () => `nothing listens on port ${port}`,
  );
}

export function missingCommands(names: readonly string[]): readonly string[] {
  return names.filter((name) => {
    try {
      execFileSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' });
      return false;
    } catch {
      return true;
    }
  });
}
