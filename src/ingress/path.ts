// One agreed form of a request path: it is matched, and it is what the backend gets. Most proxies' bypasses of the
// last years were "matched A, forwarded B".

/** Nothing to do for a path without an escape, an empty segment or a segment that starts with a dot. */
const NEEDS_WORK = /%|\/\/|\/\./;
const ESCAPE = /%([0-9A-Fa-f]{2})?/g;
const ENCODED_SEPARATOR = /%2F|%5C/;

/**
 * The normal form of the path of a request target (starts with `/`, no query): escapes of unreserved characters are
 * decoded and others get upper-case digits (RFC 3986 section 6.2.2), empty segments are merged, dot segments resolved.
 * Undefined for a path to refuse: a malformed escape, `%00`, one that climbs above the root, and one where an encoded
 * slash or backslash would make a dot segment once the backend decodes it.
 */
export function normalisePath(raw: string): string | undefined {
  if (!NEEDS_WORK.test(raw)) return raw;
  const decoded = raw.includes('%') ? decodeUnreserved(raw) : raw;
  if (decoded === undefined) return undefined;
  if (ENCODED_SEPARATOR.test(decoded) && hidesDotSegment(decoded)) return undefined;
  return resolveSegments(decoded);
}

/**
 * The normal form of a path in an Ingress rule. What could never stand in a request target is escaped, so that a rule
 * may be written as people read it (`/café au lait`). Undefined for a path that no request can have.
 */
export function normaliseRulePath(path: string): string | undefined {
  const escaped = path
    .replace(/%(?![0-9A-Fa-f]{2})/g, '%25')
    .replace(/[^\u0021-\u007e]+/g, (text) => encodeURIComponent(text.toWellFormed()))
    .replace(/[#?\\]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
  return escaped.startsWith('/') ? normalisePath(escaped) : undefined;
}

function decodeUnreserved(raw: string): string | undefined {
  let valid = true;
  const decoded = raw.replace(ESCAPE, (whole, digits: string | undefined) => {
    const code = digits === undefined ? 0 : Number.parseInt(digits, 16);
    if (code === 0) {
      valid = false;
      return whole;
    }
    const char = String.fromCharCode(code);
    return /[A-Za-z0-9\-._~]/.test(char) ? char : whole.toUpperCase();
  });
  return valid ? decoded : undefined;
}

function hidesDotSegment(path: string): boolean {
  const segments = path.replaceAll('%2F', '/').replaceAll('%5C', '/').split('/');
  return segments.some((segment) => segment === '..' || segment === '.');
}

function resolveSegments(path: string): string | undefined {
  const kept: string[] = [];
  const segments = path.split('/');
  for (const segment of segments) {
    if (segment === '' || segment === '.') continue;
    if (segment !== '..') kept.push(segment);
    else if (kept.pop() === undefined) return undefined;
  }
  const last = segments.at(-1);
  const directory = last === '' || last === '.' || last === '..';
  return kept.length === 0 ? '/' : `/${kept.join('/')}${directory ? '/' : ''}`;
}
