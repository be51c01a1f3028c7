// What each byte may be, as tables: one lookup and one mask for each byte of a head.

export const HTAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const COLON = 0x3a;
export const SEMICOLON = 0x3b;

/** RFC 9110 section 5.6.2: what a method or a field name is made of. */
export const TOKEN = 1;
/** Letters, digits and hyphen: the field names that are passed on. */
export const PLAIN_NAME = 2;
/** RFC 9110 section 5.5: field value bytes, with the space and tab between them. */
export const VALUE = 4;
/** Printable ASCII but `#`: what may stand in a request target (no fragment reaches a server, RFC 9112 section 3.2). */
export const TARGET = 8;
/** RFC 3986 unreserved and `_`: the host names that exist. */
export const HOST = 16;
export const DIGIT = 32;
/** In a path or target, a byte that asks for normalisation or a refusal: `%`, and `\` which some servers take for `/`. */
export const SPECIAL = 64;

export const CLASS: Uint8Array = Uint8Array.from({ length: 256 }, (_, code) => {
  const char = String.fromCharCode(code);
  let bits = 0;
  if (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(char)) bits |= TOKEN;
  if (/[-0-9A-Za-z]/.test(char)) bits |= PLAIN_NAME;
  if (code === HTAB || (code >= SP && code !== 0x7f)) bits |= VALUE;
  if (code > SP && code < 0x7f && char !== '#') bits |= TARGET;
  if (/[-0-9A-Za-z._~]/.test(char)) bits |= HOST;
  if (/[0-9]/.test(char)) bits |= DIGIT;
  if (/[%\\]/.test(char)) bits |= SPECIAL;
  return bits;
});

/** Value of a hexadecimal digit, or 255. */
export const HEX: Uint8Array = Uint8Array.from({ length: 256 }, (_, code) => {
  const value = Number.parseInt(String.fromCharCode(code), 16);
  return Number.isNaN(value) ? 255 : value;
});

/** Compares bytes with a lower-case ASCII text of letters, digits and hyphens, whatever the case of the bytes. */
export function equalsIgnoringCase(bytes: Uint8Array, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false;
  for (let i = 0; i < text.length; i++) {
    if (((bytes[start + i] as number) | 0x20) !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** The bytes as text, one character a byte: what is passed on stays as it came. */
export function textOf(bytes: Buffer, start: number | undefined, end: number | undefined): string {
  return bytes.toString('latin1', start, end);
}
