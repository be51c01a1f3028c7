import { afterEach, expect, test } from 'vitest';
import type { Exec } from './exec.ts';
import { ToolShells } from './tool-shell.ts';

const started: string[] = [];
const direct: Exec = {
  run: async (file) => {
    started.push(file);
    return { exitCode: 0, stdout: 'direct', stderr: '', notFound: false, timedOut: false };
  },
};
let open: ToolShells | undefined;

function shells(): ToolShells {
  started.length = 0;
  return (open = new ToolShells(direct));
}

afterEach(async () => {
  await open?.close();
  open = undefined;
});

test('a tool gets its words and its input as they are, and its output comes back whole', async () => {
  const tools = shells();
  const words = ['a b', "it's", '$HOME', '`x`', '\\', '"', '', '*', 'é'];
  const said = await tools.run('printf', ['%s|', ...words]);
  expect(said).toEqual({ exitCode: 0, stdout: `${words.join('|')}|`, stderr: '', notFound: false, timedOut: false });
  const input = 'table ip x {\n  $0 `y` \\ "é"\n}\nEND-OF-TOOL-2\n';
  expect((await tools.run('cat', [], { input })).stdout).toBe(input);
  expect((await tools.run('cat', [])).stdout).toBe('');
  expect(started).toEqual([]);
});

test('the code, what was said on standard error, and output without a line end are those of each tool', async () => {
  const tools = shells();
  const first = await tools.run('sh', ['-c', 'printf out; printf wrong >&2; exit 3']);
  expect(first).toMatchObject({ exitCode: 3, stdout: 'out', stderr: 'wrong', notFound: false });
  expect(await tools.run('true', [])).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
  expect(await tools.run('no-such-tool-here', [])).toMatchObject({ exitCode: 127, notFound: true });
  expect(await tools.run('sh', ['-c', 'kill -9 $$'])).toMatchObject({ exitCode: -1, timedOut: false });
  const long = await tools.run('sh', ['-c', 'head -c 3000000 /dev/zero | tr "\\0" x']);
  expect(long.stdout.length).toBe(3_000_000);
  expect(started).toEqual([]);
});

test('a tool that takes too long is killed with what it started, and the next one runs', async () => {
  const tools = shells();
  const result = await tools.run('sh', ['-c', 'echo begun; sleep 600; echo never'], { timeoutMs: 300 });
  expect(result).toMatchObject({ exitCode: -1, timedOut: true, stdout: 'begun\n' });
  expect((await tools.run('echo', ['on'])).stdout).toBe('on\n');
});

test('a shell that somebody kills is one failure', async () => {
  const tools = shells();
  expect(await tools.run('sh', ['-c', 'kill -9 $PPID'])).toMatchObject({ exitCode: -1, timedOut: false });
  expect((await tools.run('echo', ['on'])).stdout).toBe('on\n');
});

test('two tools run at a time; a third and a large input are started directly', async () => {
  const tools = shells();
  const waiting = [1, 2].map(() => tools.run('sh', ['-c', 'sleep 0.3; echo slow']));
  expect((await tools.run('third', [])).stdout).toBe('direct');
  expect((await Promise.all(waiting)).map(({ stdout }) => stdout)).toEqual(['slow\n', 'slow\n']);
  await tools.run('large', [], { input: `${'x'.repeat(50_000)}\n` });
  await tools.run('unended', [], { input: 'x' });
  expect(started).toEqual(['third', 'large', 'unended']);
});

test('closing kills what still runs; from then on tools are started directly', async () => {
  const tools = shells();
  const running = tools.run('sleep', ['600']);
  await tools.close();
  expect((await running).exitCode).toBe(-1);
  expect((await tools.run('echo', [])).stdout).toBe('direct');
});
