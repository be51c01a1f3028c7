// The words for a mode: of flags and of KubeProxyConfiguration.

import type { RulesModeSetting } from '../rules/mode.ts';

/** Modes of kube-proxy that there is no backend for yet. */
const TO_COME: readonly string[] = ['iptables', 'ipvs'];

export type ParsedMode =
  | { readonly kind: 'mode'; readonly mode: RulesModeSetting }
  | { readonly kind: 'to-come' }
  | { readonly kind: 'unknown' };

export function parseRulesMode(word: string): ParsedMode {
  if (word === 'auto' || word === 'nftables' || word === 'userspace') return { kind: 'mode', mode: word };
  return { kind: TO_COME.includes(word) ? 'to-come' : 'unknown' };
}
