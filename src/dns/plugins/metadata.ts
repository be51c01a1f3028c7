// metadata: what plugins know of a question, by label, for the fields `{/label}` of the query log.

import { parseIp } from '../../lib/ip.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { count } from '../corefile/words.ts';
import type { Asked, Handler } from '../handler.ts';
import { labelsOf, originAt } from '../wire/name.ts';
import type { Zone } from '../zone/zone.ts';

export const metadata: PluginDefinition = {
  name: 'metadata',
  once: true,
  setup: ({ args, place }, draft) => {
    count(args, place, 'metadata', 0, Infinity);
    draft.notes = (services: BlockServices) => {
      const zones = (draft.kubernetes?.zones ?? []).map((options) => services.zone(options));
      return (asked) => {
        const notes = new Map<string, string>();
        if (draft.view) notes.set('view/name', draft.view.name);
        for (const zone of zones) noteKubernetes(notes, asked, zone());
        return notes;
      };
    };
    draft.answer('metadata', (services: BlockServices): Handler => {
      const notesOf = draft.notes?.(services);
      return {
        name: 'metadata',
        handle: (asked, next) => {
          // The same for everybody who has the question, and for the log.
          if (notesOf) asked.metadata = notesOf(asked);
          return next(asked);
        },
      };
    });
  },
};

/** The parts of a name in the cluster's zone, and whose address asks. */
function noteKubernetes(notes: Map<string, string>, { query, client }: Asked, zone: Zone): void {
  const ip = client && parseIp(client.address.replace(/^::ffff:(?=[0-9.]+$)/, ''));
  const namespaces = new Set(ip ? zone.pods.get(ip) : []);
  const [own] = namespaces;
  if (own !== undefined && namespaces.size === 1) notes.set('kubernetes/client-namespace', own);
  const at = originAt(query.key, zone.options.origin);
  if (at < 0) return;
  const [kind = '', namespace = '', service = '', first = '', second] = labelsOf(
    `${query.key.slice(0, at)}\0`,
  ).reverse();
  const bare = (label: string): string => label.replace(/^_/, '');
  notes.set('kubernetes/kind', kind);
  notes.set('kubernetes/namespace', namespace);
  notes.set('kubernetes/service', service);
  notes.set('kubernetes/endpoint', second === undefined ? first : '');
  notes.set('kubernetes/protocol', second === undefined ? '' : bare(first));
  notes.set('kubernetes/port-name', second === undefined ? '' : bare(second));
}
