/** A line longer than this is no event of an API server (etcd keeps objects of 1.5 MiB at most). */
const LONGEST_LINE = 32 * 1024 * 1024;

const NEWLINE = 0x0a;

/**
 * Splits a stream of bytes into lines, as they come. What stands after the last newline is kept for the next chunk,
 * and dropped at the end: a line that was cut off is no event.
 */
export class JsonLines {
  #rest: Uint8Array[] = [];
  #length = 0;

  /** The lines that this chunk completes, without empty ones. Throws a RangeError on a line that has no end. */
  push(chunk: Uint8Array): readonly string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const line = this.#take(chunk.subarray(start, end));
      if (line !== '') lines.push(line);
      start = end + 1;
    }
    if (start < chunk.length) {
      // Copied, so that a few bytes do not keep a whole network buffer.
      this.#rest.push(chunk.slice(start));
      this.#length += chunk.length - start;
      if (this.#length > LONGEST_LINE) throw new RangeError(`a line of more than ${LONGEST_LINE} bytes`);
    }
    return lines;
  }

  #take(tail: Uint8Array): string {
    const bytes = this.#rest.length === 0 ? tail : Buffer.concat([...this.#rest, tail]);
    this.#rest = [];
    this.#length = 0;
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8').trim();
  }
}
