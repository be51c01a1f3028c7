// Session affinity: which endpoint a cookie stands for. The cookie is ours and says nothing of addresses to whom it is given.

import { createHash, randomBytes } from 'node:crypto';

export interface StickyCookie {
  /** `balanced`: a random key; `persistent`: the hash of an endpoint. */
  readonly key: string;
  /** Hash of the backend that the key is for. */
  readonly backend: string;
}

export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

export function newKey(): string {
  return randomBytes(12).toString('hex');
}

export function readCookie(value: string | undefined): StickyCookie | undefined {
  const match = /^([0-9a-f]{16,64})\|([0-9a-f]{32})$/.exec(value ?? '');
  return match?.[1] && match[2] ? { key: match[1], backend: match[2] } : undefined;
}

/** The target that a key leads to: of all hashes the highest, so that an endpoint that comes or goes moves no more than its share. */
export function balancedTarget<T extends { readonly ip: string; readonly port: number }>(
  targets: readonly T[],
  key: string,
): T | undefined {
  let best: T | undefined;
  let highest = '';
  for (const target of targets) {
    const hash = shortHash(`${key} ${target.ip} ${target.port}`);
    if (hash > highest) [best, highest] = [target, hash];
  }
  return best;
}

/** The `count` targets with the highest hashes for a key: one that goes moves its own share alone. */
export function rankedTargets<T extends { readonly ip: string; readonly port: number }>(
  targets: readonly T[],
  key: string,
  count: number,
): readonly T[] {
  if (count === 1) {
    const one = balancedTarget(targets, key);
    return one ? [one] : [];
  }
  return targets
    .map((target) => ({ target, hash: shortHash(`${key} ${target.ip} ${target.port}`) }))
    .sort((a, b) => (a.hash < b.hash ? 1 : -1))
    .slice(0, count)
    .map(({ target }) => target);
}

/** A new key that leads to this target. */
export function keyFor<T extends { readonly ip: string; readonly port: number }>(
  targets: readonly T[],
  target: T,
): string {
  // Each try hits with a chance of one in the number of targets.
  for (let tries = targets.length * 32; tries > 0; tries--) {
    const key = newKey();
    if (balancedTarget(targets, key) === target) return key;
  }
  return newKey();
}
