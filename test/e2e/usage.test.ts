import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { runFairlead } from '../support/process.ts';

const CAFE = fileURLToPath(new URL('../../deploy/examples/cafe', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'fairlead-usage-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe('wrong usage ends with code 2 and one line that says what and the mend', () => {
  test.each<[string, readonly string[], RegExp]>([
    ['an unknown command', ['upp'], /unknown command "upp"/],
    [
      'a name that is none',
      ['explain', 'name', 'a..b', '--manifests', 'deploy/examples/cafe'],
      /"a\.\.b" is no DNS name/,
    ],
    [
      'a webhook without its certificate',
      ['ingress', '--manifests', CAFE, '--validating-webhook=:8443'],
      /needs --validating-webhook-certificate FILE/,
    ],
    [
      'a webhook whose certificate is not there',
      [
        'ingress',
        '--manifests',
        CAFE,
        '--validating-webhook=:0',
        '--validating-webhook-certificate=/nowhere',
        '--validating-webhook-key=/nowhere',
      ],
      /the webhook cannot start: ENOENT/,
    ],
    [
      'a term that is no time',
      ['ingress', '--manifests', CAFE, '--election-ttl=soon'],
      /--election-ttl is a time such as 30s/,
    ],
    ['explain without a Service', ['explain', 'service'], /usage: fairlead explain service NAMESPACE\/NAME/],
    ['a packet without a port', ['trace', '10.0.0.1', '10.0.0.2', '--manifests', CAFE], /DST is IP:PORT\/PROTO/],
    ['a packet between two families', ['trace', 'fd00::1', '10.0.0.2:80', '--manifests', CAFE], /two address families/],
    [
      'a flag of a folder for a running process',
      ['trace', '10.0.0.1', '10.0.0.2:80', '--cluster-cidr=10.0.0.0/8'],
      /--cluster-cidr goes with --manifests/,
    ],
    ['a shell that we do not know', ['completion', 'tcsh'], /bash\|zsh\|fish/],
    ['an unknown flag', ['up', '--manifest', CAFE], /did you mean --manifests\?/],
    ['a Corefile', ['dns', '-conf', '/etc/coredns/Corefile'], /cannot read the Corefile/],
    [
      'a scheduler that can be none',
      ['proxy', '--mode', 'ipvs', '--ipvs-scheduler', 'round robin', '--manifests', CAFE],
      /flag --ipvs-scheduler: "round robin" is no scheduler of IPVS/,
    ],
    [
      'a range that is none',
      ['cleanup', '--ipvs-exclude-cidrs', 'all'],
      /flag --ipvs-exclude-cidrs: "all" is no address range/,
    ],
    [
      'a folder that is missing',
      [
        'up',
        '--manifests',
        '/nowhere/at/all',
        '--metrics-bind-address=127.0.0.1:0',
        '--dns-bind-address=127.0.0.1:0',
        '--http-bind-address=127.0.0.1:0',
        '--https-bind-address=127.0.0.1:0',
      ],
      /\/nowhere\/at\/all/,
    ],
    ['a folder and an API server', ['up', '--manifests', CAFE, '--master', 'http://127.0.0.1:1'], /exclude each other/],
    ['a word that is no flag', ['up', 'deploy'], /takes flags only, not "deploy"/],
    ['render without a folder', ['render'], /--manifests is missing/],
  ])('%s', async (_what, words, message) => {
    const { code, stdout, stderr } = await runFairlead(words);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n').at(-1)).toMatch(/^fairlead: /);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});

describe('commands that print and end', () => {
  test('help, and the help of each command', async () => {
    const { code, stdout } = await runFairlead(['help']);
    expect(code).toBe(0);
    const commands = [...stdout.matchAll(/^  (\w+) /gm)].map((match) => match[1] ?? '');
    expect(commands).toEqual([
      'up',
      'proxy',
      'dns',
      'ingress',
      'render',
      'state',
      'explain',
      'trace',
      'completion',
      'cleanup',
      'version',
      'help',
    ]);
    const { stdout: up } = await runFairlead(['help', 'up']);
    expect(up).toContain('--manifests DIR');
    expect(await runFairlead(['up', '--help'])).toMatchObject({ code: 0, stdout: up });
  });

  test('version', async () => {
    expect(await runFairlead(['version'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^fairlead \d+\.\d+\.\d+ \(node 24\./),
    });
  });

  test('an older Node is named, with the one that is needed and where to find it', async () => {
    const pretend = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '24.9.7' } })";
    const answer = await runFairlead(['version'], {
      env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(pretend)}` },
    });
    expect(answer).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^fairlead: this is Node 24\.9\.7, and 24\.18\.1 or newer is needed; .*`npm ci`/),
    });
  });

  test('state of a folder is JSON without the content of Secrets', async () => {
    const { code, stdout } = await runFairlead(['state', '--manifests', CAFE, '--node-name', 'laptop']);
    expect(code).toBe(0);
    const state = JSON.parse(stdout) as { snapshot: { node: { name: string }; services: object; secrets: string[] } };
    expect(state.snapshot.node.name).toBe('laptop');
    expect(Object.keys(state.snapshot.services)).toEqual(['cafe/coffee', 'cafe/echo', 'cafe/redis', 'cafe/tea']);
    expect(state.snapshot.secrets).toEqual(['cafe/cafe-secret']);
    expect(stdout).not.toContain('PRIVATE KEY');
  });

  test('state without a process to ask says where it looked', async () => {
    const { code, stderr } = await runFairlead(['state', '--address', '127.0.0.1:1']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no fairlead answers at http:\/\/127\.0\.0\.1:1\/state.*--manifests/);
  });

  test('render says what is wrong in a folder, with file and line, and renders the rest', async () => {
    writeFileSync(
      join(dir, 'a.yaml'),
      'apiVersion: v1\nkind: Service\nmetadata: {name: good}\nspec:\n  clusterIP: 127.96.0.1\n  ports: [{port: 8000}]\n',
    );
    writeFileSync(
      join(dir, 'b.yaml'),
      'apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec:\n  ports:\n  - port: 70000\n',
    );
    const { code, stdout, stderr } = await runFairlead(['render', '--manifests', dir, '--mode', 'nftables']);
    expect(stderr).toMatch(/b\.yaml:6: Service default\/bad: spec\.ports\[0\]\.port: .*between 1 and 65535/);
    expect(stdout).toContain('127.96.0.1');
    expect(code).toBe(0);
  });

  test('render is the same text each time', async () => {
    const words = ['render', '--manifests', CAFE, '--mode', 'nftables'];
    expect((await runFairlead(words)).stdout).toBe((await runFairlead(words)).stdout);
    const userspace = await runFairlead(['render', '--manifests', CAFE, '--mode', 'userspace']);
    expect(userspace.stdout).toContain('127.96.0.10:8080');
  });
});
