// Password files as nginx reads them: `user:hash` lines. Hashes that node:crypto can check; others are refused by name.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { SecretRecord } from '../model/records.ts';

export type Passwords =
  | { readonly kind: 'users'; readonly users: ReadonlyMap<string, string> }
  | { readonly kind: 'bad'; readonly reason: string };

/** A line without a hash is a user whom no password lets in. */
export function readPasswords(secret: SecretRecord | undefined, form: 'auth-file' | 'auth-map'): Passwords {
  if (!secret) return { kind: 'bad', reason: 'the Secret does not exist' };
  const file = secret.data.get('auth');
  if (form === 'auth-file' && file === undefined) return { kind: 'bad', reason: 'the Secret has no key auth' };
  const users = new Map<string, string>();
  const lines = form === 'auth-map' ? secret.data : linesOf(file ?? '');
  for (const [user, hash] of lines) {
    if (users.has(user)) continue;
    const kind = hashKind(hash);
    if (kind.kind === 'unsupported') {
      return { kind: 'bad', reason: `a password is hashed with ${kind.name}, which is not supported; use htpasswd -m` };
    }
    users.set(user, hash);
  }
  return { kind: 'users', users };
}

function* linesOf(text: string): Generator<readonly [string, string]> {
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (line.startsWith('#') || colon < 1) continue;
    yield [
      line.slice(0, colon),
      line
        .slice(colon + 1)
        .split(':')[0]
        ?.trim() ?? '',
    ];
  }
}

type HashKind =
  | { readonly kind: 'none' | 'sha' | 'ssha' | 'plain' | 'bcrypt' }
  | { readonly kind: 'md5'; readonly magic: string }
  | { readonly kind: 'unsupported'; readonly name: string };

function hashKind(hash: string): HashKind {
  if (hash === '') return { kind: 'none' };
  if (hash.startsWith('$apr1$')) return { kind: 'md5', magic: '$apr1$' };
  if (hash.startsWith('$1$')) return { kind: 'md5', magic: '$1$' };
  if (hash.startsWith('{SHA}')) return { kind: 'sha' };
  if (hash.startsWith('{SSHA}')) return { kind: 'ssha' };
  if (hash.startsWith('{PLAIN}')) return { kind: 'plain' };
  if (BCRYPT.test(hash)) return { kind: 'bcrypt' };
  if (hash.startsWith('$2')) return { kind: 'unsupported', name: 'a form of bcrypt that is not known' };
  if (hash.startsWith('$5$')) return { kind: 'unsupported', name: 'crypt SHA-256' };
  if (hash.startsWith('$6$')) return { kind: 'unsupported', name: 'crypt SHA-512' };
  return { kind: 'unsupported', name: 'DES crypt or an unknown method' };
}

const BCRYPT = /^\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$/;

/** The check takes long: `checkSlowly` makes it. */
export function isSlow(hash: string): boolean {
  return BCRYPT.test(hash);
}

/** For bcrypt. It takes about a tenth of a second of the thread; the library is loaded when the first such password comes. */
export async function checkSlowly(password: string, hash: string): Promise<boolean> {
  const { compare } = await import('bcryptjs');
  return compare(password, hash);
}

/** Whether the password has this hash; the comparison takes the same time whatever differs. */
export function passwordFits(password: string, hash: string): boolean {
  const bytes = Buffer.from(password, 'utf8');
  const kind = hashKind(hash);
  switch (kind.kind) {
    case 'none':
    case 'bcrypt':
    case 'unsupported':
      return false;
    case 'plain':
      return same(sha1(bytes), sha1(Buffer.from(hash.slice(7), 'utf8')));
    case 'sha':
      return same(sha1(bytes), Buffer.from(hash.slice(5), 'base64'));
    case 'ssha': {
      const given = Buffer.from(hash.slice(6), 'base64');
      return same(sha1(Buffer.concat([bytes, given.subarray(20)])), given.subarray(0, 20));
    }
    case 'md5': {
      const salt = hash.slice(kind.magic.length).split('$')[0]?.slice(0, 8) ?? '';
      return same(Buffer.from(md5Crypt(bytes, salt, kind.magic)), Buffer.from(hash));
    }
  }
}

function same(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function sha1(bytes: Buffer): Buffer {
  return createHash('sha1').update(bytes).digest();
}

const ITOA64 = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** FreeBSD's MD5 crypt, which Apache calls apr1 with another magic. */
function md5Crypt(password: Buffer, saltText: string, magic: string): string {
  const salt = Buffer.from(saltText, 'latin1');
  const inner = md5(password, salt, password);
  const parts: Buffer[] = [password, Buffer.from(magic, 'latin1'), salt];
  for (let left = password.length; left > 0; left -= 16) parts.push(inner.subarray(0, Math.min(16, left)));
  for (let bits = password.length; bits > 0; bits >>= 1) parts.push(bits & 1 ? Buffer.of(0) : password.subarray(0, 1));
  let digest = md5(...parts);
  for (let round = 0; round < 1000; round++) {
    digest = md5(
      round & 1 ? password : digest,
      round % 3 === 0 ? Buffer.alloc(0) : salt,
      round % 7 === 0 ? Buffer.alloc(0) : password,
      round & 1 ? digest : password,
    );
  }
  const at = (i: number): number => digest[i] ?? 0;
  let text = '';
  for (const [a, b, c] of [
    [0, 6, 12],
    [1, 7, 13],
    [2, 8, 14],
    [3, 9, 15],
    [4, 10, 5],
  ] as const) {
    text += base64((at(a) << 16) | (at(b) << 8) | at(c), 4);
  }
  return `${magic}${saltText}$${text}${base64(at(11), 2)}`;
}

function md5(...parts: readonly Buffer[]): Buffer {
  const hash = createHash('md5');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function base64(value: number, characters: number): string {
  let text = '';
  for (let i = 0; i < characters; i++) text += ITOA64.charAt((value >> (6 * i)) & 63);
  return text;
}
