// A folder of manifests with real backends on loopback addresses of its own, as the café is, for tests of `fairlead up`.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Addresses that no other process of this run has. */
const NETWORK = `127.${64 + ((process.pid >> 8) & 127)}.${process.pid & 255}`;
let nextNumber = 1;

export class Laptop {
  readonly dir = mkdtempSync(join(tmpdir(), 'fairlead-laptop-'));
  readonly #servers: (Server | UdpSocket)[] = [];

  /** A loopback address of its own. */
  address(): string {
    if (nextNumber > 254) throw new Error('a test file has 254 addresses');
    return `${NETWORK}.${nextNumber++}`;
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.dir, name), text);
  }

  remove(name: string): void {
    rmSync(join(this.dir, name));
  }

  /** A Pod that answers HTTP with its name and the path. */
  async httpPod(name: string, labels: string): Promise<string> {
    const ip = this.address();
    const server = createHttpServer((request, response) => {
      response.setHeader('Connection', 'close');
      response.end(`${name} ${request.url} ${String(request.headers['x-forwarded-proto'] ?? '')}`);
    });
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(8080, ip, resolve));
    this.#servers.push(server);
    return podManifest(name, labels, ip);
  }

  /** A Pod that sends datagrams back with its name. */
  async udpPod(name: string, labels: string): Promise<string> {
    const ip = this.address();
    const socket = createSocket('udp4');
    socket.on('message', (data, peer) => socket.send(`${name}: ${data.toString()}`, peer.port, peer.address));
    await new Promise<void>((resolve, reject) => socket.once('error', reject).bind(8080, ip, resolve));
    this.#servers.push(socket);
    return podManifest(name, labels, ip);
  }

  close(): void {
    for (const server of this.#servers) server.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export function podManifest(name: string, labels: string, ip: string): string {
  return `apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: ${name}, labels: {${labels}}}
spec: {containers: [{name: c, image: c}]}
status: {podIP: ${ip}}
`;
}

export function serviceManifest(name: string, clusterIP: string, protocol = 'TCP'): string {
  return `apiVersion: v1
kind: Service
metadata: {namespace: shop, name: ${name}}
spec:
  clusterIP: ${clusterIP}
  selector: {app: ${name}}
  ports: [{name: main, port: 8000, targetPort: 8080, protocol: ${protocol}}]
`;
}

/** One HTTP request on a connection of its own; the body, or the code of the error. */
export function get(address: string, port: number, path = '/', host = address): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    let text = '';
    socket.setTimeout(5_000, () => socket.destroy(new Error('timed out')));
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    socket.on('data', (data) => (text += data.toString()));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('end', () => {
      socket.destroy();
      const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1];
      resolve(status === '200' ? text.slice(text.indexOf('\r\n\r\n') + 4) : (status ?? 'no answer'));
    });
  });
}
