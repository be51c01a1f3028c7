// Sends a packet by the hooks that the kernel has, through the tables. It is the first packet of a connection whose client has not been
// here before. Pure.

import type { IpFamily } from '../../lib/ip.ts';
import type { TracePacket, TraceResult, TraceTarget, TraceWorld } from '../traced.ts';
import type { FakeTables } from './fake.ts';
import { ChainWalk, type End } from './walk.ts';

export function trace(
  tables: Readonly<Record<IpFamily, FakeTables>>,
  packet: TracePacket,
  world: TraceWorld,
): TraceResult {
  const targets: TraceTarget[] = [];
  const family = packet.destination.includes(':') ? 6 : 4;
  for (let choice = 0; ; choice++) {
    const walk = new ChainWalk(tables[family], packet, { localAddresses: world.localAddresses, choice });
    const end = send(walk, packet);
    if (end !== 'through') return { verdict: end === 'reject' ? 'REJECT' : 'DROP', targets: [] };
    if (walk.endpoint !== undefined) targets.push({ endpoint: walk.endpoint, masquerade: walk.masquerade });
    if (walk.draws <= choice) break;
  }
  const verdict = targets.length === 0 ? 'none' : targets.map(({ endpoint }) => endpoint);
  return { verdict, targets };
}

function send(walk: ChainWalk, packet: TracePacket): End {
  if (walk.isLocal(packet.source)) {
    const left = walk.hooks([
      ['nat', 'OUTPUT'],
      ['filter', 'OUTPUT'],
      ['nat', 'POSTROUTING'],
    ]);
    // What the node sends to itself comes in again on loopback; its addresses are not translated a second time.
    if (left !== 'through' || !walk.isLocal(walk.destination)) return left;
    return walk.hooks([['filter', 'INPUT']]);
  }
  const entered = walk.hooks([['nat', 'PREROUTING']]);
  if (entered !== 'through') return entered;
  return walk.hooks(
    walk.isLocal(walk.destination)
      ? [['filter', 'INPUT']]
      : [
          ['filter', 'FORWARD'],
          ['nat', 'POSTROUTING'],
        ],
  );
}
