import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createNamespace, netnsMissing, removeNamespace } from '../netns.ts';
import { NODE } from '../node-command.ts';
import type { Consumer, ScenarioResult } from './consumer.ts';
import { CLIENT_IPS, NODE_IPS, OTHER_NODE_IP } from './world.ts';

const INSIDE = fileURLToPath(new URL('./userspace-inside.ts', import.meta.url));

/**
 * Holds `packets` tables against the userspace backend with real connections. It runs in one namespace in which every address of the world is
 * local: the relays bind the Service addresses there, the endpoints theirs, and the client comes from the address of its row.
 */
export const userspaceConsumer: Consumer = {
  name: 'userspace',
  mode: 'userspace',
  reads: ['packets'],
  missing: netnsMissing,
  run: async (scenario) => {
    const host = await createNamespace('userspace');
    try {
      await host.run('sysctl', '-qw', 'net.ipv6.ip_nonlocal_bind=1');
      for (const range of ['10.0.0.0/8', '172.30.0.0/16', '198.51.100.0/24', '203.0.113.0/24']) {
        await host.run('ip', 'route', 'add', 'local', range, 'dev', 'lo');
      }
      for (const range of ['fd00:10::/64', 'fd00:10:96::/112']) {
        await host.run('ip', '-6', 'route', 'add', 'local', range, 'dev', 'lo');
      }
      for (const address of [...NODE_IPS, OTHER_NODE_IP, ...CLIENT_IPS]) {
        await host.run('ip', 'addr', 'add', `${address}/${address.includes(':') ? 128 : 32}`, 'dev', 'lo');
      }
      const { stdout } = await promisify(execFile)(
        'ip',
        ['netns', 'exec', host.namespace, ...NODE, INSIDE, scenario.file],
        { timeout: 60_000 },
      );
      return JSON.parse(stdout) as ScenarioResult;
    } finally {
      await removeNamespace(host);
    }
  },
};
