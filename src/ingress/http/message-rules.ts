// How heads of messages are read and what is written into them, where the configuration says so.

import type { Compression } from './compression.ts';

export interface MessageRules {
  /** Bytes of a request line, and of a whole head: nginx' `large_client_header_buffers 4 8k`. */
  readonly maxLine: number;
  readonly maxHead: number;
  /** Fields with underscores in their names go on to the backend. */
  readonly underscores: boolean;
  /** Fields with other odd characters in their names do. */
  readonly oddNames: boolean;
  /** A request without an id of its own is given one. */
  readonly makesRequestIds: boolean;
  /** The backend is told the path and query of the client in X-Original-URI. */
  readonly originalUri: boolean;
  /** Server of the backend goes on to the client. */
  readonly backendServer: boolean;
  /** Undefined: no answer is compressed. */
  readonly compression: Compression | undefined;
}

/** ingress-nginx' defaults, but for Server. */
export const DEFAULT_RULES: MessageRules = {
  maxLine: 8 * 1024,
  maxHead: 32 * 1024,
  underscores: false,
  oddNames: false,
  makesRequestIds: true,
  originalUri: false,
  backendServer: true,
  compression: undefined,
};
