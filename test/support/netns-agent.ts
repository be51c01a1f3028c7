// Runs inside a namespace: the client that does not rest, as the test asks for it over the IPC channel.

import { Hammer } from './hammer.ts';
import type { AgentReply, AgentRequest } from './netns-agent-client.ts';

const hammers = new Map<number, Hammer>();

process.on('message', (message) => {
  const request = message as AgentRequest;
  void answer(request).then(
    (reply) => process.send?.(reply),
    (error: unknown) => process.send?.({ id: request.id, kind: 'error', message: String(error) } satisfies AgentReply),
  );
});
process.on('disconnect', () => process.exit(0));

async function answer(request: AgentRequest): Promise<AgentReply> {
  const { id } = request;
  switch (request.kind) {
    case 'hammer':
      hammers.set(id, new Hammer(request.options));
      return { id, kind: 'done' };
    case 'hammered': {
      const hammer = hammers.get(request.hammer);
      if (!hammer) throw new Error('no such hammer');
      hammers.delete(request.hammer);
      return { id, kind: 'hammered', result: await hammer.stop() };
    }
  }
}
