export type RulesErrorCode =
  | 'nft-missing'
  | 'nft-too-old'
  | 'nft-unsupported'
  | 'iptables-missing'
  | 'iptables-too-old'
  | 'iptables-unsupported'
  | 'ipvs-missing'
  | 'ipvs-unsupported'
  | 'ipvs-scheduler'
  | 'no-privilege';

/** No rules can be programmed here. The message says what, where and the mend. */
export class RulesError extends Error {
  readonly code: RulesErrorCode;

  constructor(code: RulesErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
