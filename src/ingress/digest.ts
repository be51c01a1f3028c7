// auth-type: digest (RFC 7616 with MD5 and qop=auth, which is what nginx' module speaks): pure, but for the nonces that were used.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { SecretRecord } from '../model/records.ts';
import { normalisePath } from './path.ts';

/** How long a nonce is good, and how many are remembered with the counts that were used with them. */
const NONCE_MS = 60_000;
const MAX_NONCES = 10_000;

export type DigestUsers =
  | { readonly kind: 'users'; readonly hashes: ReadonlyMap<string, string> }
  | { readonly kind: 'bad'; readonly reason: string };

/** Lines of htdigest, `user:realm:hash`; with `auth-map` the user is the key. The map is by `user:realm`. */
export function readDigestUsers(secret: SecretRecord | undefined, form: 'auth-file' | 'auth-map'): DigestUsers {
  if (!secret) return { kind: 'bad', reason: 'the Secret does not exist' };
  const file = secret.data.get('auth');
  if (form === 'auth-file' && file === undefined) return { kind: 'bad', reason: 'the Secret has no key auth' };
  const lines =
    form === 'auth-map' ? [...secret.data].map(([user, rest]) => `${user}:${rest}`) : (file ?? '').split('\n');
  const hashes = new Map<string, string>();
  for (const line of lines.map((each) => each.trim())) {
    if (line === '' || line.startsWith('#')) continue;
    const match = /^([^:]+:[^:]*):([0-9a-f]{32})$/i.exec(line);
    if (!match?.[1] || !match[2])
      return { kind: 'bad', reason: 'a line is not user:realm:hash; make it with htdigest' };
    if (!hashes.has(match[1])) hashes.set(match[1], match[2].toLowerCase());
  }
  return { kind: 'users', hashes };
}

export interface DigestRequest {
  readonly method: string;
  readonly path: string;
  /** With its `?`, or empty. */
  readonly query: string;
  readonly authorization: string | undefined;
}

/** `stale`: all is right but the nonce, which is too old; the client takes another without asking its user. */
export type DigestVerdict = 'right' | 'stale' | 'wrong';

export class DigestChecks {
  readonly #key: Buffer;
  readonly #used = new Map<string, Set<string>>();

  /** `key` is the same in all threads, so that each takes the others' nonces. */
  constructor(key: Buffer) {
    this.#key = key;
  }

  /** The value of WWW-Authenticate. `now` in milliseconds. */
  challenge(realm: string, stale: boolean, now: number): string {
    const at = Math.floor(now).toString(36);
    const nonce = `${at}.${this.#sign(at, realm)}`;
    return `Digest realm="${realm}", qop="auth", algorithm=MD5, nonce="${nonce}"${stale ? ', stale=true' : ''}`;
  }

  check(request: DigestRequest, realm: string, hashes: ReadonlyMap<string, string>, now: number): DigestVerdict {
    const words = wordsOf(request.authorization);
    const word = (name: string): string => words?.get(name) ?? '';
    const hash = hashes.get(`${word('username')}:${realm}`);
    if (!words || hash === undefined || word('realm') !== realm || word('qop') !== 'auth') return 'wrong';
    if (!/^(MD5)?$/i.test(word('algorithm')) || !/^[0-9a-f]{8}$/i.test(word('nc')) || word('cnonce') === '')
      return 'wrong';
    if (!isFor(word('uri'), request)) return 'wrong';
    const own = md5(`${request.method}:${word('uri')}`);
    const expected = md5(`${hash}:${word('nonce')}:${word('nc')}:${word('cnonce')}:auth:${own}`);
    if (!same(expected, word('response').toLowerCase())) return 'wrong';
    return this.#isFresh(word('nonce'), word('nc').toLowerCase(), realm, now) ? 'right' : 'stale';
  }

  /** It was given out here, lately, and was not used with this count before. */
  #isFresh(nonce: string, count: string, realm: string, now: number): boolean {
    const [at = '', signature = ''] = nonce.split('.');
    if (!same(this.#sign(at, realm), signature)) return false;
    const age = now - Number.parseInt(at, 36);
    if (!(age >= -NONCE_MS && age <= NONCE_MS)) return false;
    let used = this.#used.get(nonce);
    if (!used) this.#used.set(nonce, (used = new Set()));
    if (used.has(count)) return false;
    used.add(count);
    if (this.#used.size > MAX_NONCES) {
      const oldest = this.#used.keys().next();
      if (!oldest.done) this.#used.delete(oldest.value);
    }
    return true;
  }

  #sign(at: string, realm: string): string {
    return createHmac('sha256', this.#key).update(`${at} ${realm}`).digest('hex').slice(0, 32);
  }
}

/** The target that the client has signed is the one that it asks for. */
function isFor(uri: string, { path, query }: DigestRequest): boolean {
  const mark = uri.indexOf('?');
  const ownPath = mark < 0 ? uri : uri.slice(0, mark);
  return ownPath.startsWith('/') && normalisePath(ownPath) === path && (mark < 0 ? '' : uri.slice(mark)) === query;
}

/** RFC 7616 section 3.4: names with values, in quotes or without. */
function wordsOf(field: string | undefined): ReadonlyMap<string, string> | undefined {
  const text = /^digest\s+(.+)$/i.exec(field ?? '')?.[1];
  if (text === undefined || text.length > 4096) return undefined;
  const words = new Map<string, string>();
  for (const [, name = '', quoted, plain] of text.matchAll(
    /([a-z]+)\s*=\s*(?:"([^"\\]*)"|([^\s",]+))\s*(?:,\s*|$)/gi,
  )) {
    const lower = name.toLowerCase();
    // Two of one name could be read differently by two readers.
    if (words.has(lower)) return undefined;
    words.set(lower, quoted ?? plain ?? '');
  }
  return words;
}

function md5(text: string): string {
  return createHash('md5').update(text, 'utf8').digest('hex');
}

function same(a: string, b: string): boolean {
  const [one, two] = [Buffer.from(a), Buffer.from(b)];
  return one.length === two.length && timingSafeEqual(one, two);
}
