import { expect, test } from 'vitest';
import { systemExec } from './exec.ts';

const run = systemExec.run.bind(systemExec);

test('a tool gets its words and its input as they are, and its output comes back whole', async () => {
  const words = ['a b', "it's", '$HOME', '', '*', 'é'];
  const said = await run('printf', ['%s|', ...words]);
  expect(said).toEqual({ exitCode: 0, stdout: `${words.join('|')}|`, stderr: '', notFound: false, timedOut: false });
  const input = 'é\n'.repeat(500_000);
  expect((await run('cat', [], { input })).stdout).toBe(input);
  expect((await run('cat', [], { input: Buffer.from('bytes') })).stdout).toBe('bytes');
  expect((await run('cat', [])).stdout).toBe('');
});

test('the code and what was said on standard error are a result, and so is a tool that is not there or that a signal ends', async () => {
  const failed = await run('sh', ['-c', 'printf out; printf wrong >&2; exit 3']);
  expect(failed).toEqual({ exitCode: 3, stdout: 'out', stderr: 'wrong', notFound: false, timedOut: false });
  expect(await run('no-such-tool-here', [], { input: 'x' })).toMatchObject({ exitCode: -1, notFound: true });
  expect(await run('/', [])).toMatchObject({
    exitCode: -1,
    notFound: false,
    stderr: expect.stringContaining('EACCES') as unknown,
  });
  expect(await run('sh', ['-c', 'kill -9 $$'])).toMatchObject({ exitCode: -1, timedOut: false });
  expect(await run('true', ['x'.repeat(3_000_000)])).toMatchObject({ exitCode: -1, notFound: false });
});

test('a tool that ends before it has read its input has a result like any other', async () => {
  const result = await run('sh', ['-c', 'exec <&-; echo done'], { input: 'x'.repeat(3_000_000) });
  expect(result).toMatchObject({ exitCode: 0, stdout: 'done\n' });
});

test('a tool that takes too long is killed, even where what it started goes on', async () => {
  const result = await run('sh', ['-c', 'echo begun; sleep 20 & wait'], { timeoutMs: 500 });
  expect(result).toMatchObject({ exitCode: -1, timedOut: true });
});

test('tools speak the C locale, and are found where distributions keep them', async () => {
  const { stdout } = await run('sh', ['-c', 'echo "$LC_ALL $PATH"']);
  expect(stdout).toMatch(/^C .*:\/usr\/local\/sbin:\/usr\/sbin:\/sbin\n$/);
});
