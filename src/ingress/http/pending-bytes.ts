/** Bytes that came and are not used yet. Many small pieces cost no more than their bytes. */
export class PendingBytes {
  #bytes: Buffer | undefined;
  #start = 0;
  #end = 0;
  /** The buffer is ours to write behind the end. */
  #own = false;

  get length(): number {
    return this.#end - this.#start;
  }

  /** What is alone is kept as it is, without a copy. */
  append(bytes: Buffer, start: number, end: number): void {
    const here = this.length;
    if (!this.#bytes || here === 0) {
      this.#bytes = bytes;
      this.#start = start;
      this.#end = end;
      this.#own = false;
      return;
    }
    if (!this.#own || this.#end + end - start > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(4096, 2 * (here + end - start)));
      this.#bytes.copy(larger, 0, this.#start, this.#end);
      this.#bytes = larger;
      this.#start = 0;
      this.#end = here;
      this.#own = true;
    }
    bytes.copy(this.#bytes, this.#end, start, end);
    this.#end += end - start;
  }

  /** `take` gets the bytes and returns the offset behind what it used. Returns how many those are. */
  drain(take: (bytes: Buffer, start: number, end: number) => number): number {
    if (!this.#bytes || this.length === 0) return 0;
    const before = this.#start;
    const bytes = this.#bytes;
    const at = take(bytes, before, this.#end);
    // They may have been thrown away meanwhile.
    if (this.#bytes === bytes) this.#start = at;
    if (this.length === 0) this.clear();
    return at - before;
  }

  clear(): void {
    this.#bytes = undefined;
    this.#start = 0;
    this.#end = 0;
    this.#own = false;
  }
}
