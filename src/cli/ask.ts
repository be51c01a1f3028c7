// Asks a running fairlead for what it knows, at the address of its metrics.

import { hostPort } from '../lib/ip.ts';
import type { Arguments } from './args.ts';
import { messageOf } from '../lib/message-of.ts';
import { CommandError, UsageError } from './errors.ts';
import { listenAddress } from './settings.ts';
import { manifestDirs } from './source-choice.ts';

/** The flags of a folder, which a running process has its own values for. */
const OF_A_FOLDER: ReadonlySet<string> = new Set([
  'node-name',
  'mode',
  'cluster-cidr',
  'masquerade-all',
  'nodeport-addresses',
  'service-cluster-ip-range',
  'service-node-port-range',
  'cluster-domain',
  'conf',
  'ingress-class',
  'controller-class',
  'watch-ingress-without-class',
  'ingress-class-by-name',
  'watch-namespace',
  'configmap',
  'annotations-prefix',
  'default-backend-service',
  'disable-svc-external-name',
  'ssl-redirect',
  'as',
  'conformance',
  'enable-ssl-passthrough',
]);

/** Whether a folder is meant. Throws UsageError for flags that contradict each other. */
export function asksFolder(args: Arguments): boolean {
  if (manifestDirs(args).length > 0) {
    if (args.text('address') === undefined) return true;
    throw new UsageError('flags --manifests and --address exclude each other: a folder or a running process, not both');
  }
  const given = args.given.find((name) => OF_A_FOLDER.has(name));
  if (given === undefined) return false;
  throw new UsageError(`flag --${given} goes with --manifests; a running process has a value of its own`);
}

/**
 * The body of the process' answer for the path. What it refuses is thrown in its own words: UsageError for 400, CommandError for the rest,
 * and for nobody being there.
 */
export async function askProcess(args: Arguments, path: string): Promise<string> {
  const { address, port } = listenAddress(args, 'address', '127.0.0.1:10249');
  const url = `http://${hostPort(address, port)}${path}`;
  let status: number;
  let body: string;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    ({ status } = response);
    body = await response.text();
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new CommandError(
      `no fairlead answers at ${url}: ${messageOf(cause)}. Give --address IP:PORT of its metrics, or --manifests DIR.`,
      { cause: error },
    );
  }
  if (status === 200) return body;
  if (status === 400) throw new UsageError(body.trim());
  throw new CommandError(body.trim() === '' ? `${url} answered ${status}` : body.trim());
}
