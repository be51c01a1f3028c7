// Server blocks that run, and the one that a question goes to: that of the longest zone on its port.

import { CACHE_BEHIND } from './plugins/cache.ts';
import type { BlockDraft, BlockServices, HeaderRule, QueryLog } from './block.ts';
import type { EdnsExtras } from './encode.ts';
import { chainOf, refuse, type Asked, type Handle } from './handler.ts';
import { CHAIN_ORDER } from './plugin-list.ts';
import { nameText, ROOT, type DnsName } from './wire/name.ts';
import { CLASS_IN, RR } from './wire/types.ts';

/** A block as it answers. */
export interface RunningBlock {
  readonly handle: Handle;
  /** Questions of another class than IN. */
  readonly handleOther: Handle;
  /** Which address comes first, 0 to 1. */
  readonly random: () => number;
  /** Whether addresses take turns in front. */
  readonly turns: boolean;
  readonly logs: readonly QueryLog[];
  readonly errorLog: ((head: string, why: string) => void) | undefined;
  readonly bufsize: number | undefined;
  readonly extras: EdnsExtras | undefined;
  readonly header: HeaderRule | undefined;
  readonly deadlineMs: number | undefined;
}

export interface Route {
  readonly block: RunningBlock;
  /** The zone's name as metrics show it. */
  readonly zone: string;
  /** The name of the block's view; empty without one. */
  readonly view: string;
  /** Whether a question of the zone is for this block. */
  readonly fits: ((asked: Asked) => boolean) | undefined;
}

const OTHER_CLASS_PLUGINS: ReadonlySet<string> = new Set(['acl', 'chaos', 'rewrite', 'template', 'forward']);

export function runBlock(draft: BlockDraft, services: BlockServices): RunningBlock {
  const made = CHAIN_ORDER.flatMap((plugin) =>
    (draft.handlers.get(plugin) ?? []).map((make) => ({ plugin, handler: make(services) })),
  );
  const forOthers = made.filter(({ plugin }) => OTHER_CLASS_PLUGINS.has(plugin) && plugin !== CACHE_BEHIND);
  const handlers = made.map(({ handler }) => handler);
  return {
    // A block without plugins that answer refuses, and so does one that ends with zones of its own, for names in none of them.
    handle: handlers.length === 0 ? refuse : chainOf(handlers, made.at(-1)?.plugin === 'file' ? refuse : draft.end),
    handleOther: draft.otherClasses
      ? chainOf(
          forOthers.map(({ handler }) => handler),
          refuse,
        )
      : refuse,
    random: draft.loadBalanced ? services.random : () => 0,
    turns: draft.loadBalanced,
    logs: draft.queryLogs,
    errorLog: draft.errorLog?.(services),
    bufsize: draft.bufsize,
    extras: draft.nsid === undefined ? undefined : { nsid: Buffer.from(draft.nsid, 'utf8').toString('latin1') },
    header: draft.header,
    deadlineMs: draft.deadlineMs,
  };
}

export interface RoutedBlock {
  readonly zones: readonly DnsName[];
  readonly block: RunningBlock;
  readonly view: BlockDraft['view'];
}

/** The blocks of one listening address, by zone; those of one zone in the order of the Corefile. */
export class Routes {
  readonly #byZone = new Map<DnsName, readonly Route[]>();
  readonly #only: Route | undefined;
  /** Whether nothing but the question chooses the block: no view. */
  readonly byQuestion: boolean;

  constructor(blocks: readonly RoutedBlock[]) {
    for (const { zones, block, view } of blocks) {
      for (const zone of zones) {
        const route: Route = { block, zone: nameText(zone), view: view?.name ?? '', fits: view?.fits };
        this.#byZone.set(zone, [...(this.#byZone.get(zone) ?? []), route]);
      }
    }
    this.byQuestion = blocks.every(({ view }) => view === undefined);
    const [root, ...others] = this.#byZone.get(ROOT) ?? [];
    this.#only = this.#byZone.size === 1 && others.length === 0 && root?.fits === undefined ? root : undefined;
  }

  /** DS records are the parent's (RFC 4035 section 3.1.4.1). Where no view of a zone fits, the zone above is asked. */
  find(asked: Asked): Route | undefined {
    if (this.#only) return this.#only;
    const { key, type } = asked.query;
    let own: Route | undefined;
    for (let at = 0; ; at += 1 + key.charCodeAt(at)) {
      const route = this.#byZone.get(key.slice(at) as DnsName)?.find(({ fits }) => !fits || fits(asked));
      // The root is everybody's parent, and would be asked of what a zone of ours knows.
      const isParent = at > 0 && !(own && at >= key.length - 1);
      if (route && (isParent || type !== RR.DS)) return route;
      own ??= route;
      if (at >= key.length - 1) return own;
    }
  }

  /** Asks as a client would, without what is done to a client's packets. */
  readonly ask: Handle = (asked) => {
    const route = this.find(asked);
    if (!route) return refuse(asked);
    return asked.query.klass === CLASS_IN ? route.block.handle(asked) : route.block.handleOther(asked);
  };
}
