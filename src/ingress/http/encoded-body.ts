import { constants, createBrotliCompress, createGzip, type BrotliCompress, type Gzip } from 'node:zlib';
import type { Coding } from './compression.ts';

/** What becomes of the bytes of a body that is compressed on its way. */
export interface EncodedOutput {
  /** Compressed bytes; false when there is enough for now, and `resume` follows. */
  onBytes(bytes: Buffer): boolean;
  onEnd(): void;
  /** More can be written. */
  onRoom(): void;
  onFailed(): void;
}

/** 512 KB of memory for each body, where brotli would take 4 MB. */
const BROTLI_WINDOW = 19;

/** One answer's body through gzip or brotli. What was read in one piece leaves in one piece: a slow stream is not held back until it ends. */
export class EncodedBody {
  readonly #stream: Gzip | BrotliCompress;

  constructor(coding: Coding, level: number, output: EncodedOutput) {
    this.#stream =
      coding === 'gzip'
        ? createGzip({ level, flush: constants.Z_SYNC_FLUSH })
        : createBrotliCompress({
            flush: constants.BROTLI_OPERATION_FLUSH,
            params: { [constants.BROTLI_PARAM_QUALITY]: level, [constants.BROTLI_PARAM_LGWIN]: BROTLI_WINDOW },
          });
    this.#stream.on('data', (bytes: Buffer) => {
      if (!output.onBytes(bytes)) this.#stream.pause();
    });
    this.#stream.on('end', () => output.onEnd());
    this.#stream.on('drain', () => output.onRoom());
    this.#stream.on('error', () => output.onFailed());
  }

  /** `bytes` are kept until they are used. False when there is enough for now. */
  write(bytes: Buffer): boolean {
    return this.#stream.write(bytes);
  }

  end(): void {
    this.#stream.end();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** Nothing is told any more. */
  destroy(): void {
    this.#stream.removeAllListeners();
    this.#stream.on('error', () => {});
    this.#stream.destroy();
  }
}
