// Basic authentication: the password of a request against the Secret. A pair that was right once is remembered by its hash, since a check
// costs from a millisecond (apr1) to a tenth of a second (bcrypt).

import { createHash } from 'node:crypto';
import type { SecretRecord } from '../model/records.ts';
import type { BasicAuthSettings } from './annotations/basic-auth.ts';
import type { TemplateRequest } from './annotations/template.ts';
import { DigestChecks, readDigestUsers, type DigestUsers } from './digest.ts';
import { isSlow, passwordFits, readPasswords, type Passwords } from './htpasswd.ts';
import type { Answer } from './http/answer.ts';
import { PasswordThread, type PasswordVerdict } from './password-thread.ts';
import type { RouteTable } from './route-table.ts';

export type PasswordCheck =
  | { readonly kind: 'open' }
  | { readonly kind: 'refused'; readonly answer: Answer }
  /** The check takes time; `done` is told once, with the answer for a wrong password. */
  | { readonly kind: 'wait'; readonly verify: (done: (refusal: Answer | undefined) => void) => void };

const MAX_REMEMBERED = 1000;
/** Slow checks that wait for their turn: what guesses passwords must not be able to fill the memory, or to starve the rest. */
const MAX_WAITING = 64;
const BUSY: Answer = { status: 503, reason: 'too many passwords are being checked' };
const FAILED: Answer = { status: 503, reason: 'the password could not be checked' };
const SHUT: Answer = { status: 503, reason: 'this path is shut because its configuration cannot be carried out' };

export class PasswordDoor {
  readonly #remembered = new WeakMap<SecretRecord, Set<string>>();
  readonly #passwords = new WeakMap<SecretRecord, { readonly form: string; readonly passwords: Passwords }>();
  readonly #digestUsers = new WeakMap<SecretRecord, { readonly form: string; readonly users: DigestUsers }>();
  readonly #digest: DigestChecks;
  readonly #thread = new PasswordThread();
  /** Under way, by what is checked: a browser asks for many things at once with one password. */
  readonly #checking = new Map<string, Promise<PasswordVerdict>>();
  #waiting = 0;

  /** `nonceKey` is the same in all threads. */
  constructor(nonceKey: Buffer) {
    this.#digest = new DigestChecks(nonceKey);
  }

  /** `now` in milliseconds. */
  check(table: RouteTable, settings: BasicAuthSettings, request: TemplateRequest, now: number): PasswordCheck {
    const secret = table.snapshot.secrets.get(settings.secret);
    if (settings.scheme === 'digest') return this.#checkDigest(secret, settings, request, now);
    const passwords = secret && this.#passwordsOf(secret, settings.form);
    if (!passwords || passwords.kind === 'bad') return { kind: 'refused', answer: SHUT };
    const answer: Answer = {
      status: 401,
      reason: 'a user name and a password are needed',
      fields: `WWW-Authenticate: Basic realm="${settings.realm}"\r\n`,
    };
    const match = /^basic +([A-Za-z0-9+/=]+)$/i.exec(request.header('authorization') ?? '');
    const pair = match?.[1] === undefined ? '' : Buffer.from(match[1], 'base64').toString('utf8');
    const colon = pair.indexOf(':');
    const hash = colon < 0 ? undefined : passwords.users.get(pair.slice(0, colon));
    if (hash === undefined) return { kind: 'refused', answer };
    let remembered = this.#remembered.get(secret);
    if (!remembered) this.#remembered.set(secret, (remembered = new Set()));
    const digest = createHash('sha256').update(pair).digest('base64');
    if (remembered.has(digest)) return { kind: 'open' };
    const password = pair.slice(colon + 1);
    const known = remembered;
    if (isSlow(hash)) {
      return { kind: 'wait', verify: (done) => this.#verify(password, hash, { known, digest, answer, done }) };
    }
    if (!passwordFits(password, hash)) return { kind: 'refused', answer };
    remember(known, digest);
    return { kind: 'open' };
  }

  #checkDigest(
    secret: SecretRecord | undefined,
    { form, realm }: BasicAuthSettings,
    request: TemplateRequest,
    now: number,
  ): PasswordCheck {
    const users = secret && this.#digestUsersOf(secret, form);
    if (!users || users.kind === 'bad') return { kind: 'refused', answer: SHUT };
    const { method, path, query } = request;
    const asked = { method, path, query, authorization: request.header('authorization') };
    const verdict = this.#digest.check(asked, realm, users.hashes, now);
    if (verdict === 'right') return { kind: 'open' };
    const challenge = this.#digest.challenge(realm, verdict === 'stale', now);
    const reason = 'a user name and a password are needed';
    return { kind: 'refused', answer: { status: 401, reason, fields: `WWW-Authenticate: ${challenge}\r\n` } };
  }

  #digestUsersOf(secret: SecretRecord, form: BasicAuthSettings['form']): DigestUsers {
    const known = this.#digestUsers.get(secret);
    if (known?.form === form) return known.users;
    const users = readDigestUsers(secret, form);
    this.#digestUsers.set(secret, { form, users });
    return users;
  }

  stop(): Promise<void> {
    return this.#thread.stop();
  }

  #verify(
    password: string,
    hash: string,
    to: {
      readonly known: Set<string>;
      readonly digest: string;
      readonly answer: Answer;
      readonly done: (refusal: Answer | undefined) => void;
    },
  ): void {
    if (this.#waiting >= MAX_WAITING) {
      to.done(BUSY);
      return;
    }
    this.#waiting++;
    void this.#check(password, hash, to.digest).then((verdict) => {
      this.#waiting--;
      if (verdict === 'fits') remember(to.known, to.digest);
      to.done(verdict === 'fits' ? undefined : verdict === 'differs' ? to.answer : FAILED);
    });
  }

  #check(password: string, hash: string, digest: string): Promise<PasswordVerdict> {
    const key = `${digest} ${hash}`;
    const known = this.#checking.get(key);
    if (known) return known;
    const checking = this.#thread.check(password, hash).finally(() => this.#checking.delete(key));
    this.#checking.set(key, checking);
    return checking;
  }

  #passwordsOf(secret: SecretRecord, form: BasicAuthSettings['form']): Passwords {
    const known = this.#passwords.get(secret);
    if (known?.form === form) return known.passwords;
    const passwords = readPasswords(secret, form);
    this.#passwords.set(secret, { form, passwords });
    return passwords;
  }
}

function remember(known: Set<string>, digest: string): void {
  if (known.size >= MAX_REMEMBERED) known.clear();
  known.add(digest);
}
