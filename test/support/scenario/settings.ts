// The line `Config: NAME VALUE, …` under a scenario's title: what the user of the mode may say otherwise.

import { cidrContains, cidrFamily, parseCidr } from '../../../src/lib/cidr.ts';
import { ipFamily, isLoopback, type Ip } from '../../../src/lib/ip.ts';
import type { NodePortAddresses, RulesConfig } from '../../../src/rules/config.ts';
import type { NodeView } from '../../../src/rules/packet.ts';

export type ScenarioSettings = Partial<
  Pick<RulesConfig, 'detectLocal' | 'masqueradeAll' | 'nodePortAddresses' | 'localhostNodePorts'>
>;

/** One part of the line; undefined when it says nothing that there is. */
export function parseSetting(text: string): ScenarioSettings | undefined {
  const [name, ...values] = text.trim().split(/\s+/);
  const [value = '', more = ''] = values;
  switch (name) {
    case 'masqueradeAll':
      return values.length === 0 ? { masqueradeAll: true } : undefined;
    case 'localhostNodePorts':
      return value === 'false' ? { localhostNodePorts: false } : undefined;
    case 'detectLocal':
      if (value === 'none') return { detectLocal: { kind: 'none' } };
      if (value === 'InterfaceNamePrefix' && more !== '')
        return { detectLocal: { kind: 'interface-prefix', prefix: more } };
      return undefined;
    case 'nodePortAddresses': {
      if (value === 'primary' || value === 'all') return { nodePortAddresses: { kind: value } };
      const cidrs = values.flatMap((range) => parseCidr(range) ?? []);
      const isWhole = cidrs.length > 0 && cidrs.length === values.length;
      return isWhole ? { nodePortAddresses: { kind: 'cidrs', cidrs } } : undefined;
    }
    default:
      return undefined;
  }
}

/** The judge's view of the node under these settings. */
export function viewUnder(
  view: NodeView,
  { nodePortAddresses, localhostNodePorts = true, ...rest }: ScenarioSettings,
): NodeView {
  return {
    ...view,
    ...rest,
    isNodePortAddress: (ip) => {
      if (isLoopback(ip) && !localhostNodePorts) return false;
      return nodePortAddresses
        ? view.isLocal(ip) && answersOn(nodePortAddresses, ip, view)
        : view.isNodePortAddress(ip);
    },
  };
}

function answersOn(choice: NodePortAddresses, ip: Ip, view: NodeView): boolean {
  if (choice.kind === 'primary') return view.nodeIps.includes(ip);
  if (choice.kind === 'all') return view.isNodePortAddress(ip) || !isLoopback(ip);
  const ranges = choice.cidrs.filter((range) => cidrFamily(range) === ipFamily(ip));
  return ranges.length === 0 || ranges.some((range) => cidrContains(range, ip));
}
