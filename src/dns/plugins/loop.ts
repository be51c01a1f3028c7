// loop: finds out whether forwarded questions come back, says so, and forwards none for as long as they do. The
// cluster's names are answered all the while, and the process stays.

import { createHash } from 'node:crypto';
import { coded } from '../answers.ts';
import type { BlockServices, PluginDefinition } from '../block.ts';
import { isOwn } from '../block.ts';
import { count } from '../corefile/words.ts';
import type { Answer, Asked, Handle, Handler } from '../handler.ts';
import { nameText, prependLabel, ROOT, type DnsName } from '../wire/name.ts';
import { CLASS_IN, FLAG, RCODE, RR } from '../wire/types.ts';

/** How often a loop that was found is looked for again. */
const AGAIN_MS = 30_000;
/** A probe without an answer is sent again, for as long as upstream may take to start. */
const RETRY_MS = 2000;
const SEEN_MS = 100;
const MOST_PROBES = 15;

export const loop: PluginDefinition = {
  name: 'loop',
  once: true,
  setup: ({ args, place }, draft) => {
    count(args, place, 'loop', 0);
    const [zone = ROOT] = draft.zones;
    let detector: LoopDetector | undefined;
    draft.answer('loop', (services) => (detector = new LoopDetector(zone, services)).handler);
    draft.tasks.push(async () => detector?.run());
  },
};

class LoopDetector {
  readonly handler: Handler;
  readonly #services: BlockServices;
  readonly #probe: DnsName;
  readonly #facts: { readonly seen: string; readonly looping: string; readonly open: string };
  #seen = false;
  #looping = false;

  constructor(zone: DnsName, services: BlockServices) {
    this.#services = services;
    const { shared } = services;
    // Not to be guessed: who knows the name could have forwarding switched off. The same in all threads: any of them may meet the probe.
    const hash = createHash('sha256').update(`${shared.secret} ${zone}`).digest('hex');
    this.#probe = prependLabel(hash.slice(0, 16), prependLabel(hash.slice(16, 32), zone) ?? zone) ?? zone;
    const [seen, looping, open] = ['seen', 'looping', 'open'].map((word) => `loop ${word} ${hash}`);
    this.#facts = { seen: seen ?? '', looping: looping ?? '', open: open ?? '' };
    shared.onAnnounced((fact) => {
      if (fact === seen) this.#seen = true;
      if (fact === looping || fact === open) this.#looping = fact === looping;
    });
    this.handler = { name: 'loop', handle: (asked, next) => this.#handle(asked, next) };
  }

  /** Until a probe is answered by upstream without having come back; again and again while it does come back. One thread does it for all. */
  async run(): Promise<void> {
    const { clock, stopped, leads, shared } = this.#services;
    if (!leads) return;
    for (let probes = 0; probes < MOST_PROBES && !stopped.aborted;) {
      this.#seen = false;
      const answered = await this.#send();
      // What another thread has seen is known a little later.
      await clock.sleep(SEEN_MS, stopped);
      if (stopped.aborted) return;
      if (this.#seen) {
        this.#found();
        probes = 0;
        await clock.sleep(AGAIN_MS, stopped);
        continue;
      }
      if (this.#looping)
        this.#services.log.info('forwarded questions do not come back any more; they are forwarded again');
      shared.announce(this.#facts.open);
      if (answered) return;
      probes++;
      await clock.sleep(RETRY_MS, stopped);
    }
  }

  #handle(asked: Asked, next: Handle): Answer {
    if (!isOwn(asked) && asked.query.key === this.#probe) {
      this.#services.shared.announce(this.#facts.seen);
      return coded(RCODE.REFUSED);
    }
    if (this.#looping) return coded(RCODE.REFUSED, 'forwarded questions come back to this server: a loop');
    return next(asked);
  }

  #found(): void {
    if (!this.#looping)
      this.#services.log.error(
        'forwarded questions come back to this server: the upstream servers lead here. Nothing is forwarded until they do not; the cluster names are answered as ever. Name other servers in forward, or in the resolv.conf that it reads',
        { probe: nameText(this.#probe) },
      );
    this.#services.shared.announce(this.#facts.looping);
  }

  /** Whether upstream answered. */
  async #send(): Promise<boolean> {
    const query = {
      kind: 'query',
      id: 0,
      flags: FLAG.RD,
      name: this.#probe,
      key: this.#probe,
      type: RR.HINFO,
      klass: CLASS_IN,
      edns: undefined,
    } as const;
    const asked: Asked = { query, transport: 'udp', client: undefined, by: '' };
    const outcome = await this.#services.ask(asked);
    return outcome.kind === 'packet' || (outcome.kind === 'reply' && outcome.reply.kind !== 'code');
  }
}
