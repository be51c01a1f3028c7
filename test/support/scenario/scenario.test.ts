import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { intentConsumer } from './intent.ts';
import { iptablesConsumer } from './iptables.ts';
import { kernelIptablesConsumer } from './kernel.ts';
import { modelConsumer } from './model.ts';
import { nftablesConsumer } from './nftables.ts';
import { parseScenario } from './parse.ts';
import { probeRow } from './probe.ts';
import { concerns } from './run.ts';
import { expectedPacket } from './expect.ts';

const FILE = fileURLToPath(new URL('../../scenarios/node-port.md', import.meta.url));
const TEXT = readFileSync(FILE, 'utf8');

const dirs: string[] = [];
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
});

function scenario(text: string) {
  const dir = mkdtempSync(join(tmpdir(), 'fairlead-scenario-'));
  dirs.push(dir);
  const file = join(dir, 'case.md');
  writeFileSync(file, text);
  return parseScenario(file, text);
}

describe('a scenario that does not hold fails', () => {
  test('on the model, for an endpoint that is expected and not there', async () => {
    const wrong = TEXT.replace('| 10.180.0.1:8080, 10.180.1.1:8080 |', '| 10.180.0.1:8080, 10.180.1.9:8080 |');
    const { failures } = await modelConsumer.run(scenario(wrong));
    expect(failures).toHaveLength(1);
    expect(failures[0]).toMatch(/case\.md:\d+: model: internal: expected .*10\.180\.1\.9/);
  });

  test('on the intent, for a verdict and for masquerading', async () => {
    const rows = TEXT.split('\n').filter((line) => line.includes('192.168.0.2:30080'));
    const [first = ''] = rows;
    const verdict = await intentConsumer.run(
      scenario(TEXT.replace(first, first.replace(/10\.180\.0\.1:8080, \S+/, 'REJECT'))),
    );
    expect(verdict.failures).toHaveLength(1);
    const masquerade = await intentConsumer.run(scenario(TEXT.replace(first, first.replace('| yes |', '| no |'))));
    expect(masquerade.failures[0]).toContain('masquerade');
  });

  test('on whatever answers, for an endpoint that is not named and for one that never answers', async () => {
    const row = {
      line: 1,
      cells: { from: '10.0.0.9', to: '172.30.0.41:80/TCP', verdict: '10.180.0.1:8080, 10.180.1.1:8080' },
    };
    const options = (by: string) => ({
      probe: () => Promise.resolve({ kind: 'answered' as const, by, peerSeen: '10.0.0.9' }),
      seesMasquerade: true,
      dropMayReset: false,
    });
    expect(await probeRow(expectedPacket('x', row), options('10.180.9.9:8080'))).toContain('10.180.9.9:8080 answered');
    expect(await probeRow(expectedPacket('x', row), options('10.180.0.1:8080'))).toContain('got 10.180.0.1:8080');
  });
});

test('a scenario of one mode concerns the consumers of that mode, and those of none', () => {
  const only = scenario(TEXT.replace('\n## Given', '\nOnly: iptables, userspace\n\n## Given'));
  expect(only.only).toEqual(['iptables', 'userspace']);
  const names = [modelConsumer, intentConsumer, nftablesConsumer, iptablesConsumer, kernelIptablesConsumer]
    .filter((consumer) => concerns(only, consumer))
    .map(({ name }) => name);
  expect(names).toEqual(['model', 'intent', 'iptables', 'kernel-iptables']);
});

describe('a mistake in the file is an error with its line', () => {
  test.each([
    ['an unknown heading', TEXT.replace('## Then services', '## Then'), /unknown heading "## Then"/],
    ['an unknown table', TEXT.replace('## Then services', '## Then pods'), /unknown table "pods"/],
    ['an unknown column', TEXT.replace('| verdict |', '| outcome |'), /unknown column "outcome"/],
    ['too many cells', TEXT.replace('| yes |', '| yes | no |'), /5 cells for 4 columns/],
    ['a mode that there is not', TEXT.replace('\n## Given', '\nOnly: ebpf\n\n## Given'), /"ebpf" is no mode/],
    ['no title', TEXT.replace('# A NodePort', 'A NodePort'), /text before the title/],
    ['nothing that must be true', TEXT.replace(/## Then[\s\S]*/, ''), /says what must be true/],
  ])('%s', (_what, text, message) => {
    expect(() => scenario(text)).toThrow(message);
    expect(() => scenario(text)).toThrow(/case\.md:\d+: /);
  });

  test('YAML that is none, and an object that an API server would refuse', async () => {
    await expect(modelConsumer.run(scenario(TEXT.replace('kind: Service', 'kind: [Service')))).rejects.toThrow(
      /case\.md:\d+: not valid YAML/,
    );
    await expect(modelConsumer.run(scenario(TEXT.replace('nodePort: 30080', 'nodePort: 300800')))).rejects.toThrow(
      /case\.md:14: .*nodePort/,
    );
  });
});
