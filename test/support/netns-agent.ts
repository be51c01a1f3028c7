// Runs inside a namespace: the clients that go on for a while, as the test asks for them over the IPC channel.

import { Download } from './download.ts';
import { Hammer } from './hammer.ts';
import { Talk } from './talk.ts';
import type { AgentReply, AgentRequest } from './netns-agent-client.ts';

const hammers = new Map<number, Hammer>();
const talks = new Map<number, Talk>();
const downloads = new Map<number, Download>();

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
    case 'talk':
      talks.set(id, new Talk(request.options));
      return { id, kind: 'done' };
    case 'talk state':
      return { id, kind: 'talk state', state: talkOf(request.talk).state() };
    case 'talk close':
      talkOf(request.talk).close();
      talks.delete(request.talk);
      return { id, kind: 'done' };
    case 'download':
      downloads.set(id, new Download(request.options));
      return { id, kind: 'done' };
    case 'download state':
      return { id, kind: 'download state', state: downloadOf(request.download).state() };
    case 'download hurry':
      downloadOf(request.download).hurry();
      return { id, kind: 'done' };
    case 'download close':
      downloadOf(request.download).close();
      downloads.delete(request.download);
      return { id, kind: 'done' };
  }
}

function talkOf(id: number): Talk {
  const talk = talks.get(id);
  if (!talk) throw new Error('no such talk');
  return talk;
}

function downloadOf(id: number): Download {
  const download = downloads.get(id);
  if (!download) throw new Error('no such download');
  return download;
}
