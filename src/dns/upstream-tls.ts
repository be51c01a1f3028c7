// Certificates and keys that the Corefile names, checked before anything is connected with them.

import type { SecureContextOptions } from 'node:tls';
import { messageOf } from '../lib/message-of.ts';

/** What is wrong with them; undefined when they can be used. */
export async function certificateMistake(
  files: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>,
): Promise<string | undefined> {
  const { createSecureContext } = await import('node:tls');
  try {
    createSecureContext(files);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
