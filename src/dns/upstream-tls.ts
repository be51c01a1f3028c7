// Certificates and keys that the Corefile names, checked before anything is connected with them.

import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { messageOf } from '../lib/message-of.ts';

/** What is wrong with them; undefined when they can be used. */
export function certificateMistake(files: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>): string | undefined {
  try {
    createSecureContext(files);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
