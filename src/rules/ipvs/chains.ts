// The chains of this mode against what `iptables-save` shows → what has to be written. Pure.

import type { IpFamily } from '../../lib/ip.ts';
import type { RulesConfig } from '../config.ts';
import { chainId, partsOfChain, type ChainId } from '../iptables/names.ts';
import { linesOf, parseSave, sameRule, sameRules, type SavedState } from '../iptables/parse.ts';
import type { ChainChange } from '../iptables/plan.ts';
import type { Restore } from '../iptables/render.ts';
import { fixedChains, isChainOfModes, jumps } from './layout.ts';

/** Reads the chains of this mode and of the iptables mode, kube-proxy's or ours. */
export function parseChains(text: string, family: IpFamily): SavedState {
  return parseSave(text, family, isChainOfModes);
}

/** Whether the chains of the iptables mode carry Services now: then they are replaced only when IPVS can. */
export function carriesServices(saved: SavedState): boolean {
  return [...saved.chains.keys()].some((id) => /\/nat\/KUBE-(SVC|SVL)-/.test(id));
}

/** What differs; chains of the iptables mode go, and whatever leads to them. */
export function chainDifference(config: RulesConfig, family: IpFamily, saved: SavedState): Restore {
  const wanted = fixedChains(config, family);
  const changes: ChainChange[] = [];
  for (const [id, after] of wanted) {
    const before = saved.chains.get(id);
    if (before === undefined || !sameRules(partsOfChain(id).name, before, after)) changes.push({ id, before, after });
  }
  const gone = new Set<ChainId>();
  for (const [id, before] of saved.chains) {
    if (wanted.has(id)) continue;
    gone.add(id);
    changes.push({ id, before, after: undefined });
  }
  const missing = jumps().filter(
    ({ table, from, text }) =>
      !linesOf(saved, family, table, from).some((each) => sameRule(from, each, `-A ${from} ${text}`)),
  );
  return { changes, jumps: missing, guard: undefined, leading: leadingLines(gone, saved) };
}

const BUILT_IN: ReadonlySet<string> = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);

/** The rules that lead to chains which go; and jumps of the iptables mode to chains that this mode has, too, from where it does not. */
function leadingLines(gone: ReadonlySet<ChainId>, saved: SavedState): NonNullable<Restore['leading']> {
  const found: NonNullable<Restore['leading']>[number][] = [];
  for (const [id, lines] of saved.lines) {
    const { table, name } = partsOfChain(id);
    for (const line of lines) {
      const target = / -[jg] (\S+)/.exec(line)?.[1] ?? '';
      const isWanted = jumps().some(
        (jump) => jump.table === table && jump.from === name && sameRule(name, line, `-A ${name} ${jump.text}`),
      );
      const isStale = BUILT_IN.has(name) && isChainOfModes(target) && !isWanted;
      if (isStale || gone.has(chainId(id.startsWith('4') ? 4 : 6, table, target))) found.push({ table, line });
    }
  }
  return found;
}
