import { createSocket } from 'node:dgram';
import { expect, test } from 'vitest';
import { systemUdp } from './udp.ts';
import { ip } from '../../test/support/values.ts';

test('a datagram with source port 0, which only a forger sends, does not end the process when it is answered', async () => {
  const address = ip('127.0.0.1');
  const received: number[] = [];
  const result = await systemUdp.listen({ address, port: 0, onMessage: (_data, port) => received.push(port) });
  if (result.kind !== 'listening') throw new Error(result.code);
  const { listener } = result;
  expect(() => listener.send(Buffer.from('x'), 0, '127.0.0.1')).not.toThrow();
  // And goes on to serve.
  const client = createSocket('udp4');
  const answer = new Promise((resolve) => client.once('message', (data) => resolve(data.toString())));
  await new Promise<void>((resolve) => client.bind(0, '127.0.0.1', resolve));
  listener.send(Buffer.from('still here'), client.address().port, '127.0.0.1');
  expect(await answer).toBe('still here');
  client.close();
  listener.close();
});
