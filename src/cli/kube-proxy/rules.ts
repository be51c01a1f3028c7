// The rules plane under a configuration that may change: its RulesConfig is made anew with every Node and every edit of the file.

import { deepEqual } from '../../lib/equal.ts';
import type { NodeIdentity } from '../../model/snapshot.ts';
import { configFor, type RulesConfig, type RulesSettings } from '../../rules/config.ts';
import type { RulesMode } from '../../rules/backend.ts';
import type { RulesPlaneOptions } from '../../rules/plane.ts';
import type { RulesStarter } from '../planes.ts';
import type { LiveConfiguration } from './live.ts';
import { rulesConfigOf, type Origin } from './settings.ts';

export interface LiveRulesOptions {
  readonly live: LiveConfiguration;
  readonly origin: Origin;
  /** What only flags of our own say. */
  readonly own: Partial<RulesConfig>;
  readonly nodeName: string;
  readonly plane: Omit<RulesPlaneOptions, 'config'>;
}

export function liveRulesPlane({ live, origin, own, nodeName, plane: options }: LiveRulesOptions): RulesStarter {
  let node: NodeIdentity = { name: nodeName, ips: [], zone: undefined, podCIDRs: [] };
  const configNow = (): RulesSettings => ({ ...rulesConfigOf(live.current, origin, node), ...own });
  let config = configNow();
  let mode: RulesMode | undefined;
  return {
    name: 'rules',
    config: () => configFor(mode ?? 'nftables', config),
    mode: () => mode,
    start: async () => {
      const { startRulesPlane } = await import('../../rules/plane.ts');
      const plane = await startRulesPlane({ ...options, config });
      ({ mode } = plane);
      const adjust = (): void => {
        const next = configNow();
        if (deepEqual(next, config)) return;
        config = next;
        plane.configure(next);
      };
      live.onChange(adjust);
      return {
        name: 'rules',
        get ready() {
          return plane.ready;
        },
        update: (snapshot) => {
          if (!deepEqual(snapshot.node, node)) {
            node = snapshot.node;
            adjust();
          }
          plane.update(snapshot);
        },
        state: () => plane.state(),
        stop: () => plane.stop(),
      };
    },
  };
}
