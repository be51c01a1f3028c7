// The words for a mode: of flags and of KubeProxyConfiguration.

import type { RulesModeSetting } from '../rules/mode.ts';

const MODES: readonly RulesModeSetting[] = ['auto', 'nftables', 'iptables', 'ipvs', 'userspace'];

/** Undefined for a word that is no mode. */
export function parseRulesMode(word: string): RulesModeSetting | undefined {
  return MODES.find((mode) => mode === word);
}
