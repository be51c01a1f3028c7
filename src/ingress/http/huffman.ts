// The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), read four bits at a time.

import { textOf } from './octets.ts';

/** Bits of the code of each byte; the code is canonical, so that nothing else is needed. */
const LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26,
];
/** What stands for the end of the string: it is never in one. */
const END = 256;
const END_LENGTH = 30;

// A step is made of the next state and, where a byte is complete, that byte.
const EMITS = 1 << 16;
const FAILS = 1 << 17;
const STATE_SHIFT = 20;

interface Code {
  readonly symbol: number;
  readonly bits: number;
  readonly code: number;
}

function codes(): readonly Code[] {
  const symbols = [...LENGTHS, END_LENGTH].map((bits, symbol) => ({ symbol, bits }));
  symbols.sort((a, b) => a.bits - b.bits || a.symbol - b.symbol);
  let code = 0;
  let before = 0;
  return symbols.map(({ symbol, bits }) => {
    code *= 2 ** (bits - before);
    before = bits;
    return { symbol, bits, code: code++ };
  });
}

/** By state and four bits; and which states may stand at the end: up to seven bits of padding, all ones. */
function tables(): { readonly steps: Uint32Array; readonly accepts: Uint8Array } {
  // Inner nodes of the tree: a child is a node, or ~symbol.
  const children: [number, number][] = [[0, 0]];
  for (const { symbol, bits, code } of codes()) {
    let node = 0;
    for (let i = bits - 1; i >= 0; i--) {
      const side = (code >>> i) & 1;
      const at = children[node] as [number, number];
      if (i === 0) at[side] = ~symbol;
      else {
        if (at[side] === 0) at[side] = children.push([0, 0]) - 1;
        node = at[side] as number;
      }
    }
  }
  const steps = new Uint32Array(children.length * 16);
  for (let state = 0; state < children.length; state++) {
    for (let nibble = 0; nibble < 16; nibble++) steps[state * 16 + nibble] = stepOf(children, state, nibble);
  }
  const accepts = new Uint8Array(children.length);
  for (let node = 0, depth = 0; depth < 8; depth++) {
    accepts[node] = 1;
    node = (children[node] as [number, number])[1];
  }
  return { steps, accepts };
}

function stepOf(children: readonly (readonly [number, number])[], state: number, nibble: number): number {
  let node = state;
  let emitted = 0;
  for (let i = 3; i >= 0; i--) {
    node = children[node]?.[((nibble >>> i) & 1) as 0 | 1] ?? 0;
    if (node >= 0) continue;
    if (~node === END) return FAILS;
    emitted = EMITS | (~node & 0xff);
    node = 0;
  }
  return ((node << STATE_SHIFT) | emitted) >>> 0;
}

const { steps: STEPS, accepts: ACCEPTS } = tables();
let scratch = Buffer.allocUnsafe(8 * 1024);

/** The text, one character a byte; undefined for what is no such string. */
export function huffmanText(bytes: Uint8Array, start: number, end: number): string | undefined {
  // A code is at least five bits.
  if ((end - start) * 2 > scratch.length) scratch = Buffer.allocUnsafe((end - start) * 2);
  let state = 0;
  let length = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    let step = STEPS[state * 16 + (byte >>> 4)] as number;
    if (step & FAILS) return undefined;
    if (step & EMITS) scratch[length++] = step & 0xff;
    step = STEPS[(step >>> STATE_SHIFT) * 16 + (byte & 15)] as number;
    if (step & FAILS) return undefined;
    if (step & EMITS) scratch[length++] = step & 0xff;
    state = step >>> STATE_SHIFT;
  }
  return ACCEPTS[state] === 1 ? textOf(scratch, 0, length) : undefined;
}
