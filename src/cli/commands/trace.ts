// `fairlead trace SRC DST:PORT/PROTO`: what happens to this packet, step by step, of a folder or of a running process.

import type { Arguments } from '../args.ts';
import { asksFolder, askProcess } from '../ask.ts';
import { createContext } from '../context.ts';
import { EXIT_STOPPED, UsageError } from '../errors.ts';
import { output, rulesConfig, rulesMode } from '../settings.ts';
import { traceText, tracePacket } from '../trace-packet.ts';
import { loadSnapshot } from './render.ts';

export async function trace(args: Arguments): Promise<number> {
  const [from, to, ...rest] = args.operands;
  if (from === undefined || to === undefined || rest.length > 0) {
    throw new UsageError('usage: fairlead trace SRC DST:PORT/PROTO [FLAGS]');
  }
  const format = output(args);
  const context = createContext(args);
  if (!asksFolder(args)) {
    const query = new URLSearchParams({ from, to, output: format });
    context.out(await askProcess(args, `/trace?${query.toString()}`));
    return EXIT_STOPPED;
  }
  const setting = rulesMode(args, 'nftables');
  const mode = setting === 'auto' ? 'nftables' : setting;
  const config = rulesConfig(args);
  const result = tracePacket(from, to, { snapshot: await loadSnapshot(args, context), config, mode, own: [] });
  context.out(format === 'json' ? `${JSON.stringify(result, null, 2)}\n` : traceText(result));
  return EXIT_STOPPED;
}
