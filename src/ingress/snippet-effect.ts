// What the directives of a snippet make of one request.

import { cidrContains } from '../lib/cidr.ts';
import { parseIp } from '../lib/ip.ts';
import { rewrite } from './annotations/rewrite.ts';
import type { Condition, Directive } from './annotations/snippet.ts';
import type { TemplateRequest } from './annotations/template.ts';
import type { Answer } from './http/answer.ts';

export interface SnippetEffect {
  /** Ends the request. */
  readonly answer: Answer | undefined;
  readonly path: string;
  readonly query: string;
  /** Request fields: names in lower case that are replaced, and the lines in their place. */
  readonly dropped: readonly string[];
  readonly fields: string;
  /** Answer fields: for every answer, and those for successes and redirects alone. */
  readonly answerDropped: readonly string[];
  readonly always: string;
  /** Further lines that hang on the status. */
  readonly onStatus: ((status: number) => string) | undefined;
}

interface AnswerLine {
  readonly name: string;
  readonly line: string;
  readonly when: 'always' | 'success' | readonly number[];
}

/** nginx' add_header without `always`. */
const SUCCESSES: ReadonlySet<number> = new Set([200, 201, 204, 206, 301, 302, 303, 304, 307, 308]);

const REASON = 'a snippet of the configuration answers here';

/** `now` in milliseconds. Directives work in their order, as far as an answer. */
export function snippetEffect(directives: readonly Directive[], request: TemplateRequest, now: number): SnippetEffect {
  const effect = new Effect(request, now);
  effect.run(directives);
  return effect;
}

class Effect implements SnippetEffect {
  answer: Answer | undefined;
  path: string;
  query: string;
  readonly dropped: string[] = [];
  readonly answerDropped: string[] = [];
  #requestLines: readonly { readonly name: string; readonly line: string }[] = [];
  #lines: readonly AnswerLine[] = [];
  readonly #variables = new Map<string, string>();
  readonly #request: TemplateRequest;
  readonly #now: number;
  #entered = false;

  constructor(request: TemplateRequest, now: number) {
    this.#request = { ...request, variables: this.#variables };
    this.#now = now;
    ({ path: this.path, query: this.query } = request);
  }

  get fields(): string {
    return this.#requestLines.map(({ line }) => line).join('');
  }

  get always(): string {
    return this.#lines.map(({ line, when }) => (when === 'always' ? line : '')).join('');
  }

  get onStatus(): ((status: number) => string) | undefined {
    const lines = this.#lines.filter(({ when }) => when !== 'always');
    if (lines.length === 0) return undefined;
    return (status) =>
      lines
        .map(({ line, when }) =>
          (when === 'success' ? SUCCESSES.has(status) : when.includes(status as never)) ? line : '',
        )
        .join('');
  }

  run(directives: readonly Directive[]): void {
    for (const directive of directives) {
      if (this.answer) return;
      this.#apply(directive);
    }
  }

  #apply(directive: Directive): void {
    switch (directive.kind) {
      case 'answer-field': {
        const line = `${directive.name}: ${oneLine(directive.value.render(this.#request))}\r\n`;
        const name = directive.name.toLowerCase();
        // With some statuses only, what the backend says is left: whether it is replaced is not known yet.
        if (directive.replaces && directive.when === 'always') this.#dropAnswer(name);
        this.#lines = [...this.#lines, { name, line, when: directive.when }];
        return;
      }
      case 'drop-answer-field':
        this.#dropAnswer(directive.name);
        return;
      case 'drop-request-field':
        this.#dropRequest(directive.name);
        return;
      case 'set':
        this.#variables.set(directive.variable, directive.value.render(this.#request));
        return;
      case 'request-field': {
        const name = directive.name.toLowerCase();
        if (directive.onlyGiven && this.#request.header(name) === undefined) return;
        this.#dropRequest(name);
        const text = oneLine(directive.value.render(this.#request));
        // nginx: an empty value takes the field away.
        if (text !== '') this.#requestLines = [...this.#requestLines, { name, line: `${directive.name}: ${text}\r\n` }];
        return;
      }
      case 'return':
        this.#return(directive.status, directive.text?.render(this.#request));
        return;
      case 'rewrite':
        this.#rewrite(directive);
        return;
      case 'access':
        this.#access(directive);
        return;
      case 'expires':
        this.#expires(directive.seconds);
        return;
      case 'if':
        if (holds(directive.condition, this.#request)) this.run(directive.block);
    }
  }

  #dropAnswer(pattern: string): void {
    this.answerDropped.push(pattern);
    this.#lines = this.#lines.filter(({ name }) => !fits(pattern, name));
  }

  #dropRequest(pattern: string): void {
    this.dropped.push(pattern);
    this.#requestLines = this.#requestLines.filter(({ name }) => !fits(pattern, name));
  }

  #onSuccess(...lines: readonly string[]): void {
    this.#lines = [
      ...this.#lines,
      ...lines.map((line) => ({ name: '', line: `${line}\r\n`, when: 'success' as const })),
    ];
  }

  #return(status: number, text: string | undefined): void {
    const redirects = text !== undefined && [301, 302, 303, 307, 308].includes(status);
    const page = text === undefined || redirects ? {} : { page: text.replace(/[^\n\u0020-\u007e]/g, '?') };
    this.answer = { status, reason: REASON, ...(redirects ? { location: text } : {}), ...page };
  }

  #rewrite({ regex, target, redirect }: Extract<Directive, { readonly kind: 'rewrite' }>): void {
    const groups = regex.exec(this.path);
    if (!groups) return;
    const result = rewrite(target, groups, this.query);
    if (result.kind === 'bad') this.answer = { status: 400, reason: 'the path is malformed' };
    else if (redirect !== undefined || result.kind === 'redirect') {
      const url = result.kind === 'redirect' ? result.url : result.path + result.query;
      const origin = `${this.#request.secure ? 'https' : 'http'}://${this.#request.host}`;
      this.answer = { status: redirect ?? 302, reason: REASON, location: url.startsWith('/') ? origin + url : url };
    } else ({ path: this.path, query: this.query } = result);
  }

  /** The first that fits decides. */
  #access({ allow, range }: Extract<Directive, { readonly kind: 'access' }>): void {
    if (this.#entered) return;
    const ip = parseIp(this.#request.remoteAddress);
    // An address that cannot be read is let in by nothing but `all`.
    if (range !== 'all' && !(ip && cidrContains(range, ip))) return;
    if (allow) this.#entered = true;
    else this.answer = { status: 403, reason: 'this address may not enter' };
  }

  #expires(seconds: number | 'max' | 'epoch'): void {
    this.answerDropped.push('expires', 'cache-control');
    if (seconds === 'epoch' || (seconds !== 'max' && seconds < 0)) {
      const at = seconds === 'epoch' ? 1000 : this.#now + seconds * 1000;
      this.#onSuccess(`Expires: ${new Date(at).toUTCString()}`, 'Cache-Control: no-cache');
    } else if (seconds === 'max') {
      this.#onSuccess('Expires: Thu, 31 Dec 2037 23:55:55 GMT', 'Cache-Control: max-age=315360000');
    } else {
      this.#onSuccess(
        `Expires: ${new Date(this.#now + seconds * 1000).toUTCString()}`,
        `Cache-Control: max-age=${seconds}`,
      );
    }
  }
}

function holds(condition: Condition, request: TemplateRequest): boolean {
  const text = condition.value.render(request);
  switch (condition.kind) {
    case 'given':
      return text !== '' && text !== '0';
    case 'start':
      return text.startsWith(condition.text);
    case 'equal':
      return (text === condition.text) !== condition.not;
    case 'match':
      return condition.regex.test(text) !== condition.not;
  }
}

/** A star at the end of a pattern stands for any rest. */
function fits(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

/** Variables bring in what clients send: nothing of it may end the line. */
function oneLine(text: string): string {
  return text.replace(/[^\u0020-\u007e]/g, (char) => encodeURIComponent(char.toWellFormed()));
}
