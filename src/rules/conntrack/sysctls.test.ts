import { describe, expect, test } from 'vitest';
import type { Exec } from '../../system/exec.ts';
import type { KernelParameters } from '../../system/kernel-parameters.ts';
import { applySysctls, planSysctls, type ConntrackSettings } from './sysctls.ts';

const DEFAULTS: ConntrackSettings = {
  maxPerCore: 32_768,
  min: 131_072,
  tcpEstablishedTimeout: 86_400_000,
  tcpCloseWaitTimeout: 3_600_000,
  tcpBeLiberal: false,
  udpTimeout: 0,
  udpStreamTimeout: 0,
};

function values(settings: Partial<ConntrackSettings>, cpus: number): Readonly<Record<string, number>> {
  const plan = planSysctls({ ...DEFAULTS, ...settings }, cpus);
  return Object.fromEntries(plan.map(({ path, value }) => [path.slice(path.lastIndexOf('/') + 1), value]));
}

describe('the plan', () => {
  test('of the defaults', () =>
    expect(values({}, 8)).toEqual({
      nf_conntrack_max: 262_144,
      hashsize: 65_536,
      nf_conntrack_tcp_timeout_established: 86_400,
      nf_conntrack_tcp_timeout_close_wait: 3600,
    }));

  test.each([
    ['the minimum on a small machine', {}, 2, 131_072],
    ['no more than 2^20 on a large one', {}, 256, 1_048_576],
    ['a minimum above that all the same', { min: 2_000_000 }, 256, 2_000_000],
    ['the minimum alone without maxPerCore', { maxPerCore: 0 }, 256, 131_072],
  ])('%s', (_what, settings, cpus, max) => expect(values(settings, cpus)['nf_conntrack_max']).toBe(max));

  test('0 leaves the kernel alone; the rest only when asked for', () => {
    const nothing = { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0, tcpCloseWaitTimeout: 0 };
    expect(values(nothing, 4)).toEqual({});
    expect(values({ ...nothing, tcpBeLiberal: true, udpTimeout: 5000, udpStreamTimeout: 9000 }, 4)).toEqual({
      nf_conntrack_tcp_be_liberal: 1,
      nf_conntrack_udp_timeout: 5,
      nf_conntrack_udp_timeout_stream: 9,
    });
  });
});

function kernel(start: Readonly<Record<string, number>>, refusal?: string) {
  const held = new Map(Object.entries(start));
  const loaded: string[] = [];
  const parameters: KernelParameters = {
    read: async (path) => held.get(path),
    write: async (path, value) => {
      if (refusal === undefined) held.set(path, value);
      return refusal;
    },
  };
  const exec: Exec = {
    run: async (file, args) => {
      loaded.push([file, ...args].join(' '));
      return { exitCode: 1, stdout: '', stderr: '', notFound: false, timedOut: false };
    },
  };
  return { held, loaded, doors: { parameters, exec } };
}

describe('writing it', () => {
  const max = '/proc/sys/net/netfilter/nf_conntrack_max';
  const hash = '/sys/module/nf_conntrack/parameters/hashsize';
  const plan = planSysctls({ ...DEFAULTS, tcpEstablishedTimeout: 0, tcpCloseWaitTimeout: 0 }, 1);

  test('changes what differs, and leaves a larger table', async () => {
    const { held, doors } = kernel({ [max]: 1000, [hash]: 262_144 });
    expect(await applySysctls(plan, doors)).toEqual({ changed: ['nf_conntrack_max 1000 → 131072'], problems: [] });
    expect(Object.fromEntries(held)).toEqual({ [max]: 131_072, [hash]: 262_144 });
  });

  test('a read-only kernel that has the values already is no problem', async () => {
    const { doors } = kernel({ [max]: 131_072, [hash]: 32_768 }, 'EROFS');
    expect(await applySysctls(plan, doors)).toEqual({ changed: [], problems: [] });
  });

  test('a read-only kernel that has not is told with the mend', async () => {
    const { doors } = kernel({ [max]: 7, [hash]: 32_768 }, 'EROFS');
    const { problems } = await applySysctls(plan, doors);
    expect(problems).toEqual([
      expect.stringMatching(
        /^nf_conntrack_max is 7 and cannot be set to 131072 \(EROFS\): run `fairlead proxy --init-only`/,
      ),
    ]);
  });

  test('without the module it is loaded, or named', async () => {
    const { doors, loaded } = kernel({});
    const { problems } = await applySysctls(plan, doors);
    expect(loaded).toEqual(['modprobe nf_conntrack']);
    expect(problems[0]).toMatch(/modprobe nf_conntrack/);
  });
});
