export type RulesErrorCode = 'nft-missing' | 'nft-too-old' | 'no-privilege' | 'nft-unsupported';

/** No rules can be programmed here. The message says what, where and the mend. */
export class RulesError extends Error {
  readonly code: RulesErrorCode;

  constructor(code: RulesErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
