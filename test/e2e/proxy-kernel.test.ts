// `proxy --config` in the kernel of a network namespace: the rules follow the Node and the file without a restart.

import { chmodSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Laptop } from '../support/laptop.ts';
import { Topology, netnsMissing } from '../support/netns.ts';
import { FairleadProcess, runFairlead } from '../support/process.ts';
import { until } from '../support/until.ts';

const missing = netnsMissing('iptables');
if (missing) process.stderr.write(`left out: proxy --config in the kernel (${missing})\n`);

describe.skipIf(missing)('proxy --config', () => {
  let topology: Topology;
  let folder: Laptop;
  let settings: Laptop;
  let running: FairleadProcess | undefined;

  beforeEach(async () => {
    topology = await Topology.create();
    folder = new Laptop();
    settings = new Laptop();
  });
  afterEach(async () => {
    await running?.close();
    await topology?.close();
    folder.close();
    settings.close();
  });

  function configure(more: string, mode = 'nftables'): string {
    const path = `${settings.dir}/config.conf`;
    writeFileSync(
      path,
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${mode}
hostnameOverride: node-a
detectLocalMode: NodeCIDR
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 2h0m0s, tcpCloseWaitTimeout: 0s}
logging: {format: json}
${more}`,
    );
    return path;
  }

  function node(podCIDR: string): void {
    folder.write(
      'node.yaml',
      `apiVersion: v1
kind: Node
metadata: {name: node-a}
spec: {podCIDRs: [${podCIDR}]}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
`,
    );
  }

  async function rulesContain(text: string): Promise<void> {
    let last = '';
    await until(
      async () => {
        last = await topology.node.run('nft', 'list', 'table', 'ip', 'fairlead').catch(String);
        return last.includes(text);
      },
      30_000,
      () => `no "${text}" in\n${last}`,
    );
  }

  test('Pod ranges of the Node, masqueradeAll and conntrack limits follow', async () => {
    node('10.1.0.0/24');
    const file = configure('');
    running = new FairleadProcess(['proxy', '--config', file, '--manifests', folder.dir], {
      namespace: topology.node.namespace,
    });
    await running.logged(({ message }) => message === 'rules in force');
    await rulesContain('10.1.0.0/24');
    const established = ['-n', 'net.netfilter.nf_conntrack_tcp_timeout_established'];
    expect((await topology.node.run('sysctl', ...established)).trim()).toBe('7200');
    node('10.2.0.0/24');
    await rulesContain('10.2.0.0/24');
    configure('nftables: {masqueradeBit: 7}\nclusterCIDR: 10.7.0.0/16\n');
    await rulesContain('0x00000080');
    running.kill();
    expect(await running.exited).toEqual({ code: 0, signal: null });
    await rulesContain('10.2.0.0/24');
  });

  test('without a mode it is iptables as with kube-proxy, with NodePorts on 127.0.0.1, which --init-only can open beforehand', async () => {
    node('10.1.0.0/24');
    const pod = await topology.addPod('a', ['10.1.0.9']);
    await pod.serve({ protocol: 'TCP', port: 8080, name: 'a' });
    folder.write(
      'service.yaml',
      `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 172.30.0.1, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.0.9]}]
`,
    );
    const file = configure('', '""');
    const { namespace, exec } = topology.node;
    const localnet = async (): Promise<string> =>
      (await topology.node.run('sysctl', '-n', 'net.ipv4.conf.all.route_localnet')).trim();
    expect(await localnet()).toBe('0');
    const init = await runFairlead(['proxy', '--config', file, '--init-only'], { namespace });
    expect(init).toMatchObject({ code: 0, stderr: expect.stringMatching(/mode is not set, which is iptables/) });
    expect(await localnet()).toBe('1');
    const guard = '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections"';
    expect((await exec.run('iptables-save', ['-t', 'filter'])).stdout).toContain(guard);
    running = new FairleadProcess(['proxy', '--config', file, '--manifests', folder.dir], { namespace });
    await running.logged(({ message }) => message === 'rules in force');
    for (const address of ['127.0.0.1', '192.168.0.2', '172.30.0.1']) {
      const port = address.startsWith('172') ? 80 : 30_080;
      expect(await topology.node.connect({ protocol: 'TCP', address, port })).toMatchObject({ by: 'a' });
    }
    // A jump and a rule of the guard each, once.
    expect((await topology.node.run('iptables-save', '-t', 'filter')).match(/KUBE-FIREWALL/g)).toHaveLength(4);
    expect(await topology.node.run('nft', 'list', 'tables')).not.toContain('fairlead');
  });

  test('in iptables mode the same', async () => {
    node('10.1.0.0/24');
    folder.write(
      'service.yaml',
      `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 127.96.0.1, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.0.9]}]
`,
    );
    running = new FairleadProcess(['proxy', '--config', configure('', 'iptables'), '--manifests', folder.dir], {
      namespace: topology.node.namespace,
    });
    await running.logged(({ message }) => message === 'rules in force');
    const saved = async (text: string): Promise<void> => {
      let last = '';
      await until(
        async () => {
          last = await topology.node.run('iptables-save');
          return last.includes(text);
        },
        30_000,
        () => `no "${text}" in\n${last}`,
      );
    };
    await saved('! -s 10.1.0.0/24 -d 127.96.0.1/32');
    node('10.2.0.0/24');
    await saved('! -s 10.2.0.0/24 -d 127.96.0.1/32');
    configure('iptables: {masqueradeAll: true}\n', 'iptables');
    const masqueradesAll = await until(
      async () => ((await topology.node.run('iptables-save')).includes('! -s 10.2.0.0/24') ? undefined : true),
      30_000,
      () => 'masqueradeAll does not count',
    );
    expect(masqueradesAll).toBe(true);
  });

  test.each([
    ['proxy', []],
    ['proxy --init-only', ['--init-only']],
  ])('a mode that this machine cannot carry ends `%s` before anything is changed on the node', async (_name, more) => {
    const file = configure('', 'ipvs');
    const { namespace } = topology.node;
    // As it is on a kernel without IPVS, wherever this runs.
    settings.write('ipvsadm', '#!/bin/sh\necho "Can\'t initialize ipvs: Protocol not available" >&2; exit 1\n');
    chmodSync(`${settings.dir}/ipvsadm`, 0o755);
    const env = { PATH: `${settings.dir}:${process.env.PATH ?? ''}` };
    const established = () => topology.node.run('sysctl', '-n', 'net.netfilter.nf_conntrack_tcp_timeout_established');
    const before = await established();
    expect(before.trim()).not.toBe('7200');
    const words = ['proxy', '--config', file, '--manifests', folder.dir, ...more];
    expect(await runFairlead(words, { namespace, env })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/no IPVS|IPVS mode/),
    });
    expect(await established()).toBe(before);
  });
});
