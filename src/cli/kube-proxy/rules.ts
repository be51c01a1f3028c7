// The rules plane under a configuration that may change: its RulesConfig is made anew with every Node and every edit of the file.

import { deepEqual } from '../../lib/equal.ts';
import type { NodeIdentity } from '../../model/snapshot.ts';
import type { RulesConfig } from '../../rules/config.ts';
import type { RulesPlane, RulesPlaneOptions } from '../../rules/plane.ts';
import type { PlaneStarter } from '../plane-keeper.ts';
import type { LiveConfiguration } from './live.ts';
import { rulesConfigOf, type Origin } from './settings.ts';

export interface LiveRulesOptions {
  readonly live: LiveConfiguration;
  readonly origin: Origin;
  /** What only flags of our own say. */
  readonly own: Partial<RulesConfig>;
  readonly nodeName: string;
  readonly plane: Omit<RulesPlaneOptions, 'config'>;
  /** Told the backend that was chosen. */
  readonly onStart: (plane: RulesPlane) => void;
}

export function liveRulesPlane({
  live,
  origin,
  own,
  nodeName,
  plane: options,
  onStart,
}: LiveRulesOptions): PlaneStarter {
  return {
    name: 'rules',
    start: async () => {
      const { startRulesPlane } = await import('../../rules/plane.ts');
      let node: NodeIdentity = { name: nodeName, ips: [], zone: undefined, podCIDRs: [] };
      const configNow = (): RulesConfig => ({ ...rulesConfigOf(live.current, origin, node), ...own });
      let config = configNow();
      const plane = await startRulesPlane({ ...options, config });
      const adjust = (): void => {
        const next = configNow();
        if (deepEqual(next, config)) return;
        config = next;
        plane.configure(next);
      };
      live.onChange(adjust);
      onStart(plane);
      return {
        name: 'rules',
        get ready() {
          return plane.ready;
        },
        update: (snapshot) => {
          node = snapshot.node;
          adjust();
          plane.update(snapshot);
        },
        state: () => plane.state(),
        stop: () => plane.stop(),
      };
    },
  };
}
