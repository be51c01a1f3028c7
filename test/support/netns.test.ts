import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf } from './download.ts';
import { Topology, netnsMissing, type Host } from './netns.ts';
import { until } from './until.ts';

const missing = netnsMissing();

let topology: Topology;
let pod: Host;

beforeAll(async () => {
  if (missing) return;
  topology = await Topology.create();
  pod = await topology.addPod('a', ['10.1.2.3', 'fd00:10::3']);
});
afterAll(() => topology?.close());

test.skipIf(missing).for([
  ['TCP', '10.1.2.3', '203.0.113.2'],
  ['TCP', 'fd00:10::3', '2001:db8:113::2'],
  ['UDP', '10.1.2.3', '203.0.113.2'],
  ['UDP', 'fd00:10::3', '2001:db8:113::2'],
] as const)('the client reaches a pod by %s on %s and is seen as itself', async ([protocol, address, peerSeen]) => {
  const server = await pod.serve({ protocol, address, port: 8080, name: 'a' });
  expect(await topology.client.connect({ protocol, address, port: 8080 })).toEqual({
    kind: 'answered',
    by: 'a',
    peerSeen,
  });
  await server.stop();
  expect(await topology.client.connect({ protocol, address, port: 8080 })).toEqual({ kind: 'refused' });
});

test.skipIf(missing)('the node is seen by its own address, and what nobody answers is silence', async () => {
  await pod.serve({ protocol: 'TCP', port: 8081, name: 'a' });
  const seen = await topology.node.connect({ protocol: 'TCP', address: '10.1.2.3', port: 8081 });
  expect(seen).toEqual({ kind: 'answered', by: 'a', peerSeen: '192.168.0.2' });
  const nobody = await topology.client.connect({ protocol: 'TCP', address: '172.30.0.9', port: 80, timeoutMs: 200 });
  expect(nobody.kind).not.toBe('answered');
});

test.skipIf(missing)('a long answer is read slowly, then quickly, and whole', async () => {
  const bytes = 4 * 1024 * 1024;
  await pod.serve({ protocol: 'TCP', address: '10.1.2.3', port: 8082, name: 'a', sends: bytes });
  const download = await topology.client.download({ address: '10.1.2.3', port: 8082, everyMs: 10 });
  await until(async () => (await download.state()).bytes > 0);
  expect((await download.state()).ended).toBe('');
  await download.hurry();
  await until(async () => (await download.state()).ended !== '');
  expect(await download.state()).toEqual({ bytes, digest: digestOf(bytes), ended: 'END' });
  await download.close();
});
