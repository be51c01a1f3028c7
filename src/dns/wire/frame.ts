// Messages over TCP: two bytes of length in front of each (RFC 1035 section 4.2.2).

export function frame(message: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(2 + message.length);
  framed.writeUInt16BE(message.length, 0);
  message.copy(framed, 2);
  return framed;
}

/** Cuts a byte stream into messages, however its chunks fall. Keeps at most one unfinished message. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #size = 0;

  /** Bytes of a message have come, but not all of it. */
  get partial(): boolean {
    return this.#size > 0;
  }

  /** The messages that are whole with this chunk, in order. */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    const messages: Buffer[] = [];
    if (this.#size < this.#wanted()) return messages;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#size);
    let at = 0;
    while (at + 2 <= bytes.length && at + 2 + bytes.readUInt16BE(at) <= bytes.length) {
      const end = at + 2 + bytes.readUInt16BE(at);
      messages.push(bytes.subarray(at + 2, end));
      at = end;
    }
    this.#chunks = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#size = bytes.length - at;
    return messages;
  }

  /** How many bytes make the next message whole; 2 while its length is not known. */
  #wanted(): number {
    const [first, second] = this.#chunks;
    if (!first || this.#size < 2) return 2;
    const low = first.length > 1 ? first[1] : second?.[0];
    return 2 + (((first[0] ?? 0) << 8) | (low ?? 0));
  }
}
