import { systemExec } from '../../src/system/exec.ts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Laptop, podManifest, serviceManifest } from '../support/laptop.ts';
import { createNamespace, netnsMissing, removeNamespace, type Host } from '../support/netns.ts';
import { FairleadProcess, runFairlead } from '../support/process.ts';
import { until } from '../support/until.ts';

const missing = netnsMissing();

describe.skipIf(missing !== undefined)(
  `rules in the kernel${missing === undefined ? '' : ` (left out: ${missing})`}`,
  () => {
    let host: Host;
    let laptop: Laptop;
    const processes: FairleadProcess[] = [];

    beforeEach(async () => {
      host = await createNamespace('rules');
      laptop = new Laptop();
      laptop.write(
        'web.yaml',
        `${serviceManifest('web', '10.96.0.10')}---\n${podManifest('web-1', 'app: web', '10.0.0.1')}`,
      );
    });

    afterEach(async () => {
      await Promise.all(processes.splice(0).map((each) => each.close()));
      await removeNamespace(host);
      laptop.close();
    });

    async function inForce(command: 'proxy' | 'up', ...words: readonly string[]): Promise<FairleadProcess> {
      const running = new FairleadProcess([command, '--manifests', laptop.dir, '--logging-format=json', ...words], {
        namespace: host.namespace,
      });
      processes.push(running);
      await running.logged(({ message }) => message === 'rules in force');
      return running;
    }

    const ruleset = () => host.run('nft', 'list', 'ruleset');

    test('proxy takes nftables by itself, leaves its rules when it stops, and cleanup removes them', async () => {
      const running = await inForce('proxy');
      expect(await ruleset()).toContain('10.96.0.10 . tcp . 8000');
      running.kill();
      expect(await running.exited).toEqual({ code: 0, signal: null });
      expect(await ruleset()).toContain('10.96.0.10 . tcp . 8000');
      const cleanup = await runFairlead(['cleanup'], { namespace: host.namespace });
      expect(cleanup).toMatchObject({ code: 0, stdout: expect.stringContaining('removed nftables table ip fairlead') });
      expect((await ruleset()).trim()).toBe('');
      expect(await runFairlead(['cleanup'], { namespace: host.namespace })).toMatchObject({
        code: 0,
        stdout: 'nothing of fairlead is in the kernel\n',
      });
    });

    test('up takes its rules with it, and leaves those of others alone', async () => {
      await host.run('nft', 'add', 'table', 'inet', 'somebody');
      const running = await inForce('up', '--mode=nftables');
      expect(await ruleset()).toContain('10.96.0.10 . tcp . 8000');
      running.kill();
      expect(await running.exited).toEqual({ code: 0, signal: null });
      expect((await ruleset()).replace(/\s+/g, ' ').trim()).toBe('table inet somebody { }');
    });

    test('up without a mode never touches the kernel', async () => {
      const running = await inForce('up');
      expect((await ruleset()).trim()).toBe('');
      running.kill();
      expect(await running.exited).toEqual({ code: 0, signal: null });
    });

    test('killed without a chance to clean up, it leaves no process behind', async () => {
      const inside = async (): Promise<ReadonlySet<string>> =>
        new Set((await systemExec.run('ip', ['netns', 'pids', host.namespace])).stdout.split('\n').filter(Boolean));
      // The test's own shell stays.
      await host.run('true');
      const before = await inside();
      const processes = async (): Promise<number> => [...(await inside())].filter((pid) => !before.has(pid)).length;
      const running = await inForce('proxy');
      // The program itself, and what listens to the kernel.
      await until(
        async () => (await processes()) >= 2,
        30_000,
        () => 'nothing listens to the kernel',
      );
      process.kill(running.pid, 'SIGKILL');
      await running.exited;
      await until(
        async () => (await processes()) === 0,
        30_000,
        () => 'a process of it is still there',
      );
      expect(await processes()).toBe(0);
    });

    test('a machine without nft says so, with the mend, and ends with code 2', async () => {
      const words = ['proxy', '--mode=nftables', '--manifests', laptop.dir];
      // The tool is looked for in PATH and in the sbin folders; an empty root for both is a namespace of mounts.
      const result = await runFairlead(words, {
        namespace: host.namespace,
        wrap: ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /usr/sbin && exec "$@"', 'sh'],
      });
      expect(result.code).toBe(2);
      expect(result.stderr).toMatch(/fairlead: nft is not on this machine; install it: apt-get install nftables/);
    });
  },
);
