// The API server for tests in a process of its own, for a network namespace: says its address over IPC, and takes objects.

import { startTestApiServer } from './server.ts';
import type { Json } from './json.ts';

export interface ApiServerRequest {
  readonly id: number;
  readonly objects: readonly Json[];
}

export type ApiServerReply = { readonly url: string } | { readonly done: number };

const server = await startTestApiServer();
process.on('message', (message) => {
  const request = message as ApiServerRequest;
  server.apply(...request.objects);
  process.send?.({ done: request.id } satisfies ApiServerReply);
});
process.on('disconnect', () => process.exit(0));
process.send?.({ url: server.url } satisfies ApiServerReply);
