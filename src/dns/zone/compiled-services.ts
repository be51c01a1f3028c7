// The answers of Services, compiled when they are first asked for. As many are kept as fit a bound; a Service that changes is another object, and what
// was compiled of it before is soon gone.

import { compileService } from './service.ts';
import type { DnsService } from './source.ts';
import type { ServiceAnswers, ZoneOptions } from './zone.ts';

/** Services and endpoints of each of the two generations: some ten megabytes if every name of them is asked for. */
const MOST = 10_000;

export class CompiledServices {
  readonly #options: ZoneOptions;
  #young = new Map<DnsService, ServiceAnswers>();
  #old: ReadonlyMap<DnsService, ServiceAnswers> = new Map();
  #size = 0;

  constructor(options: ZoneOptions) {
    this.#options = options;
  }

  of(service: DnsService): ServiceAnswers {
    const young = this.#young.get(service);
    if (young) return young;
    const answers = this.#old.get(service) ?? compileService(service, this.#options);
    if (this.#size >= MOST) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#size = 0;
    }
    this.#young.set(service, answers);
    this.#size += 1 + service.slices.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
    return answers;
  }
}
