export type SourceErrorCode =
  | 'manifests-missing'
  | 'kubeconfig-invalid'
  | 'not-in-cluster'
  | 'credentials-failed'
  | 'server-url-invalid';

/** A source cannot start as it was told to: the message says what, where and the mend. */
export class SourceError extends Error {
  readonly code: SourceErrorCode;

  constructor(code: SourceErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SourceError';
    this.code = code;
  }
}
