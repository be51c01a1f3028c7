// What the IPVS mode does to a real kernel, beside the scenarios: damage and its repair, restarts, others' virtual servers, kube-proxy before and
// after it, what the kernel refuses, settings, cleanup.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLogger } from '../../src/observe/log.ts';
import { cleanupRules } from '../../src/rules/cleanup.ts';
import { chooseMode } from '../../src/rules/mode.ts';
import type { RulesSettings } from '../../src/rules/config.ts';
import type { Exec } from '../../src/system/exec.ts';
import type { ServiceSketch } from '../rules/cluster.ts';
import { writeKubeProxyRules } from '../support/kube-proxy-rules.ts';
import type { HammerResult } from '../support/hammer.ts';
import type { Host } from '../support/netns.ts';
import { expectNoFailure } from '../support/no-failure.ts';
import { SLOWNESS } from '../support/slowness.ts';
import { until } from '../support/until.ts';
import { cidr } from '../support/values.ts';
import { IpvsWorld, LIMIT_MS, SETTINGS, WAIT_MS } from './ipvs-world.ts';

const VIP = '172.30.0.1';
const WEB: ServiceSketch = {
  name: 'web',
  clusterIPs: [VIP],
  nodePort: 30_080,
  endpoints: ['10.0.0.1:8080', '10.0.0.2:8080'],
};
/** The same in both families. */
const DUAL: ServiceSketch = {
  ...WEB,
  clusterIPs: [VIP, 'fd00:10:96::1'],
  endpoints: [...(WEB.endpoints ?? []), '[fd00:10::1]:8080'],
};

let world: IpvsWorld;

beforeAll(async () => {
  world = await IpvsWorld.create({ a: '10.0.0.1', b: '10.0.0.2' });
  for (const name of ['a', 'b']) {
    await world.pod(name).serve({ protocol: 'TCP', port: 8080, name });
    await world.pod(name).serve({ protocol: 'TCP', port: 8081, name, keeps: true });
  }
});
afterAll(() => world?.close());
// What is left is the next test's to start over.
afterEach(() => world.stop());

function withIpvs(ipvs: Partial<RulesSettings['ipvs']>): RulesSettings {
  return { ...SETTINGS, ipvs: { ...SETTINGS.ipvs, ...ipvs } };
}

/** Virtual servers, entries of sets and addresses, as they are now. */
async function save(): Promise<string> {
  const { node } = world;
  const sets = (await node.run('ipset', 'save')).split('\n').filter((line) => line.startsWith('add'));
  const links = await node.run('ip', '-o', 'address', 'show', 'dev', 'kube-ipvs0');
  const addresses = [...links.matchAll(/inet6? (\S+)/g)].map((match) => match[1] ?? '');
  return [...(await world.servers()).split('\n').sort(), ...sets.sort(), ...addresses.sort()].join('\n');
}

async function chains(): Promise<readonly string[]> {
  const saved = (await world.node.run('iptables-save')).split('\n');
  return saved.filter((line) => line.startsWith('-A')).sort();
}

test('a connection that stands is reset with its endpoint where that is asked for', { timeout: LIMIT_MS }, async () => {
  const address = '172.30.0.2';
  const long = (pod: string): ServiceSketch => ({ name: 'long', clusterIPs: [address], endpoints: [`${pod}:8081`] });
  await world.start([long('10.0.0.1')], { settings: { ...SETTINGS, resetTcpToDeletedEndpoints: true } });
  const talk = await world.client.talk({ address, port: 80, everyMs: 20 });
  try {
    await until(async () => (await talk.state()).by === 'a', WAIT_MS);
    await world.change(long('10.0.0.2'));
    await until(async () => (await talk.state()).ended === 'ECONNRESET', WAIT_MS);
    expect(await talk.state()).toMatchObject({ by: 'a' });
  } finally {
    await talk.close();
  }
});

describe('what others do', () => {
  test('is repaired, whatever it is', { timeout: LIMIT_MS }, async () => {
    await world.start([WEB]);
    const whole = await save();
    const rules = await chains();
    const damages = [
      'ipvsadm --clear',
      'ipset flush',
      `ip address delete ${VIP}/32 dev kube-ipvs0`,
      'ip link delete kube-ipvs0',
      'iptables -t nat -F',
    ];
    for (const [index, damage] of damages.entries()) {
      await world.node.run('sh', '-c', damage);
      const repairs = `fairlead_rules_drift_repairs_total ${index + 1}`;
      await until(
        async () => (await world.metrics.text()).includes(repairs),
        WAIT_MS,
        () => `not repaired: ${damage}`,
      );
      expect(await save()).toBe(whole);
      expect(await chains()).toEqual(rules);
      expect(['a', 'b']).toContain(await world.dial(VIP));
    }
  });

  test(
    'a virtual server of theirs stays, also through restart and cleanup, and on kube-ipvs0 where excludeCIDRs has it',
    { timeout: LIMIT_MS },
    async () => {
      const { node } = world;
      const settings = withIpvs({ excludeCIDRs: [cidr('172.30.9.0/24')] });
      const other = { ...WEB, name: 'other', clusterIPs: ['172.30.0.9'], nodePort: 30_081 };
      await node.run('ipvsadm', '-A', '-t', '203.0.113.99:80', '-s', 'rr');
      await world.start([WEB, other], { settings });
      await node.run('ip', 'address', 'add', '172.30.9.9/32', 'dev', 'kube-ipvs0');
      await node.run('ipvsadm', '-A', '-t', '172.30.9.9:80', '-s', 'wlc');
      await node.run('ipvsadm', '-a', '-t', '172.30.9.9:80', '-r', '10.0.0.2:8080', '-m');
      expect(await world.dial('172.30.9.9')).toBe('b');
      const whole = await save();
      await world.stop();
      // One that an earlier run left goes, theirs does not.
      await world.start([WEB], { settings });
      expect(await save()).toBe(whole.replaceAll(/^.*(172\.30\.0\.9|30081).*\n/gm, ''));
      expect(await world.dial('172.30.9.9')).toBe('b');
      expect(['a', 'b']).toContain(await world.dial(VIP));
      await world.stop();
      expect((await cleanupRules(node, settings.ipvs)).problems).toEqual([]);
      expect((await world.servers()).split('\n').sort()).toEqual([
        '',
        '-A -t 172.30.9.9:80 -s wlc',
        '-A -t 203.0.113.99:80 -s rr',
        '-a -t 172.30.9.9:80 -r 10.0.0.2:8080 -m -w 1',
      ]);
      expect(await world.dial('172.30.9.9')).toBe('b');
      await node.run('ipvsadm', '--clear');
      expect(await node.run('ipset', 'list', '-name')).toBe('');
      expect(await node.run('iptables-save')).not.toContain('KUBE-');
      await node.run('ip', 'link', 'delete', 'kube-ipvs0');
    },
  );

  test(
    'kube-proxy is taken over from, and takes over again in IPv4, while a client connects all the time and never fails',
    { timeout: LIMIT_MS },
    async () => {
      const { node } = world;
      const theirs = {
        name: 'default/web',
        portName: 'p',
        clusterIP: VIP,
        nodePort: 30_080,
        endpoints: ['10.0.0.1:8080', '10.0.0.2:8080'],
        nodeIp: '192.168.0.2',
        podCIDR: '10.0.0.0/8',
      };
      await writeKubeProxyRules(node, 'ipvs', theirs);
      // A Service that is gone since, and an endpoint that came back.
      for (const line of [
        'ip addr add 172.30.0.99/32 dev kube-ipvs0',
        'ipset add KUBE-CLUSTER-IP 172.30.0.99,tcp:80',
        'ipvsadm -A -t 172.30.0.99:80 -s rr',
        `ipvsadm -e -t ${VIP}:80 -r 10.0.0.2:8080 -m -w 0`,
      ]) {
        await node.run('sh', '-c', line);
      }
      const targets = [
        { protocol: 'TCP', address: VIP, port: 80 },
        { protocol: 'TCP', address: '192.168.0.2', port: 30_080 },
      ] as const;
      const hammer = await world.client.hammer({ targets, everyMs: 20 * SLOWNESS, timeoutMs: 3000 * SLOWNESS });
      let result: HammerResult | undefined;
      try {
        await world.start([DUAL]);
        const saved = await save();
        expect(saved).not.toMatch(/172\.30\.0\.99|-w 0/);
        // What only they have: the node's own packets are judged in mangle, and what is forwarded is not.
        expect(await node.run('iptables-save', '-t', 'filter')).not.toMatch(/KUBE-IPVS-OUT-FILTER|FORWARD.*KUBE-PROXY/);
        await world.stop();
        await writeKubeProxyRules(node, 'ipvs', theirs);
        const { removed, problems } = await cleanupRules(node);
        expect(problems).toEqual([]);
        // The ClusterIP and the NodePort of IPv6.
        expect(removed.join()).toMatch(/2 IPVS virtual servers.*1 addresses of kube-ipvs0.*2 chains of IPv4/);
      } finally {
        result = await hammer.stop();
      }
      expectNoFailure(result);
      expect(await world.servers()).not.toContain('[');
      expect(await node.run('iptables-save', '-t', 'mangle')).not.toContain('KUBE-IPVS-OUT-FILTER');
      expect(await node.run('ip6tables-save')).not.toContain('KUBE-');
      expect(await node.run('ipset', 'list', '-name')).not.toMatch(/KUBE-6-|NO-LOCAL/);
      expect(['a', 'b']).toContain(await world.dial(VIP));
      // Without their mark it is nobody's, and goes.
      await node.run('iptables', '-t', 'nat', '-F', 'KUBE-MARK-MASQ');
      await world.clean();
    },
  );
});

test(
  'at an address that the node has on a dummy link, and at that of an API server, Services answer, and so does all else there',
  { timeout: LIMIT_MS },
  async () => {
    const { node, client } = world;
    const [own, server] = ['192.0.2.7', '203.0.113.2'];
    const answers = async (from: Host, address: string, port: number): Promise<string> => {
      const outcome = await from.connect({ protocol: 'TCP', address, port });
      return outcome.kind === 'answered' ? outcome.by : outcome.kind;
    };
    await node.run('sh', '-c', `ip link add own0 type dummy; ip addr add ${own}/32 dev own0; ip link set own0 up`);
    try {
      await node.serve({ protocol: 'TCP', address: own, port: 9000, name: 'node' });
      await client.serve({ protocol: 'TCP', address: server, port: 6443, name: 'api' });
      await world.start([
        { ...WEB, externalIPs: [own, server] },
        { name: 'kubernetes', clusterIPs: ['172.30.0.9'], endpoints: [`${server}:6443@node-b`] },
      ]);
      for (const port of [80, 30_080]) expect(['a', 'b']).toContain(await answers(client, own, port));
      expect(await answers(client, own, 9000)).toBe('node');
      expect(['a', 'b']).toContain(await answers(node, server, 80));
      for (const from of [node, world.pod('a')]) expect(await answers(from, server, 6443)).toBe('api');
    } finally {
      await node.run('ip', 'link', 'delete', 'own0');
    }
  },
);

/** Makes the kernel, and not its tools, refuse something of the Services at 172.30.0.11, 172.30.0.12 and fd00:10:96::13. */
function spoiled(text: string): string {
  return (
    text
      // The set was made without time-outs.
      .replace(/^add KUBE-CLUSTER-IP 172\.30\.0\.11,tcp:80$/m, '$& timeout 5')
      // Its lower threshold is above its upper one.
      .replace(/^-a -t 172\.30\.0\.12:80 .*$/m, '$& -x 1 -y 5')
      // Such an address has a prefix of 64 bits.
      .replace(/^addr add fd00:10:96::13\/128 .*$/m, '$& mngtmpaddr')
  );
}

test(
  'Services that the kernel refuses are named and left out, the rest is in force, and they come when they are taken',
  { timeout: LIMIT_MS },
  async () => {
    let refuses = true;
    const exec: Exec = {
      run: (file, args, options) => {
        const input = options?.input;
        if (!refuses || input === undefined) return world.node.exec.run(file, args, options);
        return world.node.exec.run(file, args, { ...options, input: spoiled(Buffer.from(input).toString()) });
      },
    };
    const lines: string[] = [];
    const log = createLogger({ format: 'text', verbosity: 0, write: (line) => lines.push(line), now: () => 0 });
    const refused = [
      { name: 'entry', clusterIPs: ['172.30.0.11'], endpoints: ['10.0.0.1:8080'] },
      { name: 'server', clusterIPs: ['172.30.0.12'], endpoints: ['10.0.0.1:8080'] },
      { name: 'address', clusterIPs: ['fd00:10:96::13'], endpoints: ['[fd00:10::1]:8080'] },
    ];
    await world.start([WEB, ...refused], { exec, log });
    expect(['a', 'b']).toContain(await world.dial(VIP));
    expect(await save()).not.toMatch(/172\.30\.0\.1[12]|fd00:10:96::13/);
    for (const [name, message] of [
      ['entry', /ipset.*line [0-9]+/],
      ['server', /ipvsadm --restore/],
      ['address', /ip -force -batch.*RTNETLINK/],
    ] as const) {
      const told = lines.filter((line) => line.includes(`Service default/${name} is left out`));
      expect(told).toEqual([expect.stringMatching(message)]);
    }
    refuses = false;
    // Each is tried again when it changes, and not after half a minute only.
    await world.change(
      ...refused.map((each) => ({
        ...each,
        endpoints: each.endpoints.map((place) => place.replace(/1(\]?):8080$/, '2$1:8080')),
      })),
    );
    await until(() => (world.plane.state() as { problem?: string }).problem === undefined, WAIT_MS);
    for (const address of ['172.30.0.11', '172.30.0.12']) expect(await world.dial(address)).toBe('b');
    expect(await save()).toContain('fd00:10:96::13');
  },
);

describe('settings', () => {
  test('a scheduler that the kernel does not have is said at start', { timeout: LIMIT_MS }, async () => {
    await expect(chooseMode('ipvs', withIpvs({ scheduler: 'best' }), world.node.exec)).rejects.toMatchObject({
      code: 'ipvs-scheduler',
      message: expect.stringContaining('no IPVS scheduler "best"') as unknown,
    });
  });

  test('strictARP and time-outs come and go while it runs', { timeout: LIMIT_MS }, async () => {
    const { node, client } = world;
    const address = '203.0.113.77';
    const timeouts = async (): Promise<string> => (await node.run('ipvsadm', '--list', '--timeout')).trim();
    /** Whether somebody says on the link of node and client that the address is his. */
    const isTold = async (): Promise<boolean> => {
      const { exitCode, stdout } = await client.exec.run('arping', ['-f', '-c', '1', '-w', '2', '-I', 'eth0', address]);
      expect(stdout).toContain('ARPING');
      return exitCode === 0;
    };
    const parameters = ['arp_ignore', 'arp_announce'].map((name) => `/proc/sys/net/ipv4/conf/all/${name}`);
    const arp = async (): Promise<string> => (await node.run('cat', ...parameters)).replaceAll('\n', ' ').trim();
    await world.start([{ ...WEB, loadBalancerIPs: [address] }]);
    const before = await timeouts();
    await until(isTold, WAIT_MS);
    const settings = withIpvs({
      strictARP: true,
      tcpTimeoutMs: 100_000,
      tcpFinTimeoutMs: 20_000,
      udpTimeoutMs: 30_000,
    });
    world.plane.configure(settings);
    await until(async () => (await timeouts()) !== before, WAIT_MS);
    expect(await timeouts()).toBe('Timeout (tcp tcpfin udp): 100 20 30');
    expect(await arp()).toBe('1 2');
    expect(await isTold()).toBe(false);
    // The client has the node as its gateway.
    expect(['a', 'b']).toContain(await world.dial(address));
    world.plane.configure(SETTINGS);
    await until(async () => (await arp()) === '0 0', WAIT_MS);
    await until(isTold, WAIT_MS);
  });
});
