// The configuration that counts at this moment. One owner writes it (the file's follower); who has to act on a change says so.

import type { KubeProxyConfiguration } from './schema.ts';

export class LiveConfiguration {
  #current: KubeProxyConfiguration;
  readonly #listeners = new Set<(now: KubeProxyConfiguration) => void>();

  constructor(first: KubeProxyConfiguration) {
    this.#current = first;
  }

  get current(): KubeProxyConfiguration {
    return this.#current;
  }

  onChange(listener: (now: KubeProxyConfiguration) => void): void {
    this.#listeners.add(listener);
  }

  replace(next: KubeProxyConfiguration): void {
    this.#current = next;
    for (const listener of this.#listeners) listener(next);
  }
}
