// How many Events may be sent, as client-go's spam filter has it: for each object 25 at once and one more every five minutes; the same
// Event again within ten minutes is left out. For all objects together a rate, since a first start tells of every Ingress.

const PER_OBJECT = 25;
const REFILL_MS = 300_000;
const REPEAT_MS = 600_000;
const MAX_KEPT = 10_000;

interface Bucket {
  readonly left: number;
  readonly at: number;
}

export class EventBudget {
  readonly #buckets = new Map<string, Bucket>();
  readonly #sent = new Map<string, number>();

  /** `now` in milliseconds. False for an Event that is left out. */
  take(object: string, text: string, now: number): boolean {
    const key = `${object}\0${text}`;
    const before = this.#sent.get(key);
    if (before !== undefined && now - before < REPEAT_MS) return false;
    const bucket = this.#buckets.get(object) ?? { left: PER_OBJECT, at: now };
    const left = Math.min(PER_OBJECT, bucket.left + (now - bucket.at) / REFILL_MS);
    if (left < 1) return false;
    keep(this.#buckets, object, { left: left - 1, at: now });
    keep(this.#sent, key, now);
    return true;
  }
}

/** The newest at the end; the oldest is forgotten when there are too many. */
function keep<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MAX_KEPT) return;
  const oldest = map.keys().next();
  if (!oldest.done) map.delete(oldest.value);
}
