// The ways in which an API server fails, to be had on demand.

export type Fault =
  /** A Status of this code: 429 and 503 (with Retry-After when given), 500, 504, 410, 401, 403 … */
  | { readonly kind: 'status'; readonly code: number; readonly reason?: string; readonly retryAfterSeconds?: number }
  /** `404 page not found`, as an API group that is not served. */
  | { readonly kind: 'plain-404' }
  /** A page of a proxy that stands in front. */
  | { readonly kind: 'html'; readonly code: number }
  /** Takes the request and never answers. */
  | { readonly kind: 'hang' }
  /** Answers late. */
  | { readonly kind: 'slow'; readonly delayMs: number }
  /** Closes the connection without an answer. */
  | { readonly kind: 'reset' }
  /** Sends so many bytes of the body, then closes the connection. */
  | { readonly kind: 'truncate'; readonly bytes: number };

export interface FaultyRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** The plural of the resource; empty when the path leads to none. */
  readonly resource: string;
  readonly watch: boolean;
}

interface Planned {
  readonly matches: (request: FaultyRequest) => boolean;
  readonly fault: Fault;
  times: number;
}

export class Faults {
  #planned: Planned[] = [];

  /** The next `times` requests that match fail so. */
  plan(fault: Fault, matches: (request: FaultyRequest) => boolean = () => true, times = 1): void {
    this.#planned.push({ fault, matches, times });
  }

  /** Everything works again. */
  clear(): void {
    this.#planned = [];
  }

  take(request: FaultyRequest): Fault | undefined {
    const planned = this.#planned.find(({ matches }) => matches(request));
    if (!planned) return undefined;
    planned.times--;
    if (planned.times <= 0) this.#planned = this.#planned.filter((other) => other !== planned);
    return planned.fault;
  }
}
