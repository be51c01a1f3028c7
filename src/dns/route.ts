// Server blocks that run, and the one that a question goes to: that of the longest zone on its port.

import { CACHE_BEHIND } from './plugins/cache.ts';
import type { BlockDraft, BlockServices, HeaderRule, QueryLog } from './block.ts';
import type { EdnsExtras } from './encode.ts';
import { chainOf, refuse, type Handle } from './handler.ts';
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
  readonly logsErrors: boolean;
  readonly bufsize: number | undefined;
  readonly extras: EdnsExtras | undefined;
  readonly header: HeaderRule | undefined;
  readonly deadlineMs: number | undefined;
}

export interface Route {
  readonly block: RunningBlock;
  /** The zone's name as metrics show it. */
  readonly zone: string;
}

const OTHER_CLASS_PLUGINS: ReadonlySet<string> = new Set(['acl', 'chaos', 'rewrite', 'template', 'forward']);

export function runBlock(draft: BlockDraft, services: BlockServices): RunningBlock {
  const made = CHAIN_ORDER.flatMap((plugin) =>
    (draft.handlers.get(plugin) ?? []).map((make) => ({ plugin, handler: make(services) })),
  );
  const forOthers = made.filter(({ plugin }) => OTHER_CLASS_PLUGINS.has(plugin) && plugin !== CACHE_BEHIND);
  const handlers = made.map(({ handler }) => handler);
  return {
    // A block without plugins that answer refuses.
    handle: handlers.length === 0 ? refuse : chainOf(handlers, draft.end),
    handleOther: draft.otherClasses
      ? chainOf(
          forOthers.map(({ handler }) => handler),
          refuse,
        )
      : refuse,
    random: draft.loadBalanced ? services.random : () => 0,
    turns: draft.loadBalanced,
    logs: draft.queryLogs,
    logsErrors: draft.logsErrors,
    bufsize: draft.bufsize,
    extras: draft.nsid === undefined ? undefined : { nsid: Buffer.from(draft.nsid, 'utf8').toString('latin1') },
    header: draft.header,
    deadlineMs: draft.deadlineMs,
  };
}

/** The blocks of one listening address, by zone. */
export class Routes {
  readonly #byZone = new Map<DnsName, Route>();
  readonly #root: Route | undefined;

  constructor(blocks: readonly { readonly zones: readonly DnsName[]; readonly block: RunningBlock }[]) {
    for (const { zones, block } of blocks)
      for (const zone of zones) this.#byZone.set(zone, { block, zone: nameText(zone) });
    this.#root = this.#byZone.get(ROOT);
  }

  /** `name` in lower case. DS records are the parent's (RFC 4035 section 3.1.4.1). */
  find(name: DnsName, type: number): Route | undefined {
    if (this.#root && this.#byZone.size === 1) return this.#root;
    let own: Route | undefined;
    for (let at = 0; ; at += 1 + name.charCodeAt(at)) {
      const route = this.#byZone.get(name.slice(at) as DnsName);
      if (route && (at > 0 || type !== RR.DS)) return route;
      own ??= route;
      if (at >= name.length - 1) return own;
    }
  }

  /** Asks as a client would, without what is done to a client's packets. */
  readonly ask: Handle = (asked) => {
    const route = this.find(asked.query.key, asked.query.type);
    if (!route) return refuse(asked);
    return asked.query.klass === CLASS_IN ? route.block.handle(asked) : route.block.handleOther(asked);
  };
}
