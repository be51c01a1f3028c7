// `npm start`: the demo backends of this folder, `fairlead up` over it, and the commands to try.

import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { runBackends } from './backends.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const program = fileURLToPath(new URL('../../../src/cli/entry.js', import.meta.url));
const READY = 'http://127.0.0.1:10249/readyz';

const COMMANDS = `
Fairlead is up over ${here.replace(`${process.cwd()}/`, '')}. In another shell:

  dig @127.0.0.1 -p 1053 +short tea.cafe.svc.cluster.local
      127.96.0.10
  dig @127.0.0.1 -p 1053 +short _http._tcp.coffee.cafe.svc.cluster.local SRV
      0 100 8080 coffee.cafe.svc.cluster.local.
  curl http://127.96.0.10:8080/
      Server name: tea-1 …
  curl -H 'Host: cafe.example.com' http://127.0.0.1:8080/tea
      Server name: tea-1 …
  curl --insecure --resolve cafe.example.com:8443:127.0.0.1 https://cafe.example.com:8443/coffee
      Server name: coffee-1 … and coffee-2 in turn
  printf 'PING\\r\\n' | nc -w 1 127.96.0.30 6379
      +PONG
  echo hello | nc -u -w 1 127.96.0.40 7777
      echo-1: hello
  curl http://127.0.0.1:10249/readyz
      ok

Edit deploy/examples/cafe/tea.yaml while it runs: traffic follows. Ctrl-C ends it.
`;

const stopBackends = runBackends(here, (message) => console.error(message));
const fairlead = spawn(process.execPath, [program, 'up', '--manifests', here, ...process.argv.slice(2)], {
  stdio: 'inherit',
});
const ended = new Promise<number>((resolve) => {
  fairlead.once('exit', (code, signal) => resolve(signal ? 1 : (code ?? 1)));
});
// A terminal sends Ctrl-C to both; a supervisor sends SIGTERM to this process alone.
process.on('SIGTERM', () => fairlead.kill('SIGTERM'));
process.on('SIGINT', () => {});

const deadline = Date.now() + 10_000;
while (fairlead.exitCode === null && Date.now() < deadline) {
  const ready = await fetch(READY).then(
    (response) => response.ok,
    () => false,
  );
  if (ready) {
    console.log(COMMANDS);
    break;
  }
  await sleep(100);
}
process.exitCode = await ended;
stopBackends();
