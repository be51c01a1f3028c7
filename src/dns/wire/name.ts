// Domain names in wire form, held as a string with one character per byte: length octet and label, again and again,
// and the root's zero at the end. Two names are equal when the strings are, a child is its label in front of the
// parent, and no byte needs escaping; presentation form is made for people only.

declare const nameBrand: unique symbol;

/** A name in uncompressed wire form, at most 255 bytes with the root's zero (RFC 1035 section 3.1). */
export type DnsName = string & { readonly [nameBrand]: 'DnsName' };

export const ROOT = '\0' as DnsName;

const MAX_NAME = 255;
const MAX_LABEL = 63;

/** Parses presentation form, final dot or not, with `\.` and `\DDD` escapes. Undefined when the text is no name. */
export function parseName(text: string): DnsName | undefined {
  if (text === '' || text === '.') return text === '.' ? ROOT : undefined;
  let name = '';
  let label = '';
  for (let i = 0; i <= text.length; i++) {
    const char = i === text.length ? '.' : text.charAt(i);
    if (char === '.') {
      if (i === text.length && label === '' && text.endsWith('.')) break;
      if (label === '' || label.length > MAX_LABEL) return undefined;
      name += String.fromCharCode(label.length) + label;
      label = '';
    } else if (char === '\\') {
      const escaped = escape(text, i + 1);
      if (!escaped) return undefined;
      label += escaped.byte;
      i += escaped.length;
    } else if (char.charCodeAt(0) > 0xff) {
      return undefined;
    } else {
      label += char;
    }
  }
  return label === '' && name.length < MAX_NAME ? ((name + ROOT) as DnsName) : undefined;
}

function escape(text: string, at: number): { byte: string; length: number } | undefined {
  const digits = /^[0-9]{3}/.exec(text.slice(at, at + 3))?.[0];
  if (digits !== undefined) {
    const value = Number(digits);
    return value <= 255 ? { byte: String.fromCharCode(value), length: 3 } : undefined;
  }
  const char = text.charAt(at);
  return char === '' || char.charCodeAt(0) > 0xff ? undefined : { byte: char, length: 1 };
}

/** Presentation form with the final dot; bytes that would be misread are escaped (RFC 1035 section 5.1). */
export function nameText(name: DnsName): string {
  const labels = labelsOf(name);
  if (labels.length === 0) return '.';
  return labels.map((label) => `${label.replace(/[^!#-'*-:<-[\]-~]|\./g, escapeByte)}.`).join('');
}

function escapeByte(char: string): string {
  const code = char.charCodeAt(0);
  return code > 0x20 && code < 0x7f ? `\\${char}` : `\\${String(code).padStart(3, '0')}`;
}

/** ASCII letters in lower case (RFC 4343); length octets are below 64 and so never letters. */
export function lowerName(name: DnsName): DnsName {
  return /[A-Z]/.test(name) ? (name.replace(/[A-Z]+/g, (run) => run.toLowerCase()) as DnsName) : name;
}

/** The name with a label in front, or undefined when the label or the whole is too long or the label is empty. */
export function prependLabel(label: string, name: DnsName): DnsName | undefined {
  if (label === '' || label.length > MAX_LABEL || label.length + 1 + name.length > MAX_NAME) return undefined;
  return (String.fromCharCode(label.length) + label + name) as DnsName;
}

/** The labels from left to right, raw bytes each; none for the root. */
export function labelsOf(name: string): string[] {
  const labels: string[] = [];
  let at = 0;
  for (let length = name.charCodeAt(0); length > 0; length = name.charCodeAt(at)) {
    labels.push(name.slice(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return labels;
}

/** Where `origin` begins in `name` (0 when they are equal), or -1 when the name is not in that zone. Both lower case. */
export function originAt(name: DnsName, origin: DnsName): number {
  const at = name.length - origin.length;
  if (at < 0 || !name.endsWith(origin)) return -1;
  // A label's content may look like the end of a name: only a label boundary counts.
  let boundary = 0;
  while (boundary < at) boundary += 1 + name.charCodeAt(boundary);
  return boundary === at ? at : -1;
}

/**
 * Reads a name that may be compressed. Undefined when it runs out of the message, is longer than 255 bytes, has a
 * label of a reserved kind, or a pointer that does not point before the label it stands in for: pointers that only
 * go back cannot loop. `end` is the offset behind the name in the place where it was read.
 */
export function readName(
  message: Buffer,
  offset: number,
  length: number,
): { readonly name: DnsName; readonly end: number } | undefined {
  let name = '';
  let at = offset;
  let end = -1;
  let limit = offset;
  for (;;) {
    if (at >= length) return undefined;
    const octet = message[at] ?? 0;
    if (octet === 0) {
      return { name: (name + ROOT) as DnsName, end: end < 0 ? at + 1 : end };
    } else if (octet <= MAX_LABEL) {
      const next = at + 1 + octet;
      if (next >= length || name.length + 1 + octet >= MAX_NAME) return undefined;
      name += message.toString('latin1', at, next);
      at = next;
    } else if (octet >= 0xc0) {
      if (at + 1 >= length) return undefined;
      const target = ((octet & 0x3f) << 8) | (message[at + 1] ?? 0);
      if (end < 0) end = at + 2;
      if (target >= limit) return undefined;
      limit = target;
      at = target;
    } else {
      return undefined;
    }
  }
}

/** The offset behind a name that may be compressed, or -1 when there is none; what its pointer leads to is not looked at. */
export function skipName(message: Buffer, offset: number, length: number): number {
  let at = offset;
  while (at < length) {
    const octet = message[at] ?? 0;
    if (octet === 0) return at + 1;
    if (octet > MAX_LABEL) return octet >= 0xc0 && at + 2 <= length ? at + 2 : -1;
    at += 1 + octet;
  }
  return -1;
}

/** The offset behind an uncompressed name at `offset`, or -1 when there is none. */
export function skipPlainName(message: Buffer, offset: number, length: number): number {
  let at = offset;
  for (;;) {
    if (at >= length) return -1;
    const octet = message[at] ?? 0;
    if (octet > MAX_LABEL) return -1;
    at += 1 + octet;
    if (at - offset > MAX_NAME) return -1;
    if (octet === 0) return at;
  }
}
