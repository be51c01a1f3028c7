// The baseline: `http-proxy` as most Node programs use it. Arguments: its port, and that of the backend.

import { Agent } from 'node:http';
import httpProxy from 'http-proxy';

const [port, backend] = process.argv.slice(2).map(Number);
const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${backend}`,
  agent: new Agent({ keepAlive: true, maxSockets: 320 }),
  xfwd: true,
  ws: true,
});
proxy.on('error', () => {});
proxy.listen(port ?? 0, '127.0.0.1');
