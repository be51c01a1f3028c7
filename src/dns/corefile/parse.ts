// Tokens → server blocks with their directives, imports and snippets put in.

import { CorefileError, type Place } from './error.ts';
import { tokensOf, type Token } from './lexer.ts';

/** One line in the braces of a directive. */
export interface Option {
  readonly name: string;
  readonly place: Place;
  readonly args: readonly string[];
}

/** One plugin's line in a server block, with what stands in its braces. */
export interface Directive {
  readonly name: string;
  readonly place: Place;
  readonly args: readonly string[];
  readonly options: readonly Option[];
}

export interface ServerBlock {
  readonly place: Place;
  readonly keys: readonly string[];
  readonly directives: readonly Directive[];
}

export interface CorefileDoors {
  readonly env: (name: string) => string | undefined;
  /** The text of a file; undefined when there is none. */
  readonly readText: (path: string) => Promise<string | undefined>;
  /** Paths that a pattern with `*` or `?` in its last part matches, sorted. */
  readonly glob: (pattern: string) => Promise<readonly string[]>;
  /** The path of a file that another one names. */
  readonly relativeTo: (file: string, path: string) => string;
  /** Told of what is odd and still taken. */
  readonly warn: (message: string) => void;
}

/** What a file may import of snippets and files; more is a circle. */
const MOST_SNIPPETS = 10_000;
const MOST_FILES = 10_000;

/** Rejects with a CorefileError. */
export async function parseCorefile(text: string, file: string, doors: CorefileDoors): Promise<readonly ServerBlock[]> {
  return new Parser(tokensOf(text, file, doors.env), file, doors).blocks();
}

class Parser {
  readonly #tokens: Token[];
  readonly #file: string;
  readonly #doors: CorefileDoors;
  readonly #snippets = new Map<string, readonly Token[]>();
  #at = 0;
  #snippetsLeft = MOST_SNIPPETS;
  #filesLeft = MOST_FILES;

  constructor(tokens: Token[], file: string, doors: CorefileDoors) {
    this.#tokens = tokens;
    this.#file = file;
    this.#doors = doors;
  }

  async blocks(): Promise<readonly ServerBlock[]> {
    const blocks: ServerBlock[] = [];
    for (;;) {
      const block = await this.#block();
      if (block === 'end') return blocks;
      if (block) blocks.push(block);
    }
  }

  /** Undefined for a snippet's definition. */
  async #block(): Promise<ServerBlock | 'end' | undefined> {
    await this.#imports();
    const first = this.#tokens[this.#at];
    if (!first) return 'end';
    const keys = await this.#keys();
    const braced = this.#tokens[this.#at]?.text === '{';
    const [key = ''] = keys;
    if (keys.length === 1 && key.startsWith('(') && key.endsWith(')')) {
      this.#define(key.slice(1, -1), first, braced);
      return undefined;
    }
    if (braced) this.#at++;
    const directives = await this.#directives();
    const close = this.#tokens[this.#at];
    if (braced) {
      if (close?.text !== '}') throw this.#unclosed(first);
      this.#at++;
    } else if (close) {
      throw new CorefileError(close, 'there is a } without a { before it');
    }
    return { place: first, keys, directives };
  }

  /** Names up to the brace, or to the end of their line; a comma at the end of a line goes on. */
  async #keys(): Promise<readonly string[]> {
    const keys: string[] = [];
    let more = false;
    for (;;) {
      const token = this.#tokens[this.#at];
      if (!token) {
        if (more) throw this.#unclosed(this.#tokens.at(-1));
        return keys;
      }
      if (keys.length > 0 && token.first && !more) return keys;
      if (token.text === '{') {
        if (more) throw new CorefileError(token, 'another zone was expected after the comma, not {');
        return keys;
      }
      if (token.text === '}') throw new CorefileError(token, 'there is a } without a { before it');
      const text = token.text.replace(/,$/, '');
      more = text !== token.text;
      for (const part of text.split(',')) if (part !== '') keys.push(part);
      this.#at++;
    }
  }

  #define(name: string, at: Token, braced: boolean): void {
    if (this.#snippets.has(name)) throw new CorefileError(at, `the snippet (${name}) is defined a second time`);
    if (!braced) throw new CorefileError(at, `the snippet (${name}) needs its content in { }`);
    const start = ++this.#at;
    let depth = 1;
    for (; this.#at < this.#tokens.length; this.#at++) {
      const text = this.#tokens[this.#at]?.text;
      if (text === '{') depth++;
      if (text === '}' && --depth === 0) break;
    }
    if (depth > 0) throw this.#unclosed(at);
    this.#snippets.set(name, this.#tokens.slice(start, this.#at));
    this.#at++;
  }

  async #directives(): Promise<readonly Directive[]> {
    const directives: Directive[] = [];
    for (;;) {
      await this.#imports();
      const token = this.#tokens[this.#at];
      if (!token || token.text === '}') return directives;
      if (token.text === '{')
        throw new CorefileError(token, 'the { of a plugin has to stand on the line of the plugin');
      directives.push(await this.#directive(token));
    }
  }

  async #directive(name: Token): Promise<Directive> {
    this.#at++;
    const args = this.#restOfLine();
    this.#closesNothing();
    const options: Option[] = [];
    const brace = this.#tokens[this.#at];
    if (brace?.text === '{' && !brace.first) {
      this.#at++;
      for (;;) {
        await this.#imports();
        const token = this.#tokens[this.#at];
        if (!token) throw this.#unclosed(name);
        this.#at++;
        if (token.text === '}') break;
        options.push({ name: token.text, place: token, args: this.#restOfLine() });
        this.#closesNothing();
        const odd = this.#tokens[this.#at];
        if (odd?.text === '{') throw new CorefileError(odd, `${name.text} has no braces inside its braces`);
      }
    }
    return { name: name.text, place: name, args, options };
  }

  /** A } behind words of a line is one of them to CoreDNS, and so the block stays open. */
  #closesNothing(): void {
    const token = this.#tokens[this.#at];
    if (token?.text === '}' && !token.first)
      throw new CorefileError(token, 'the } that ends a block has to stand on a line of its own');
  }

  #restOfLine(): readonly string[] {
    const args: string[] = [];
    for (;;) {
      const token = this.#tokens[this.#at];
      if (!token || token.first || token.text === '{' || token.text === '}') return args;
      args.push(token.text);
      this.#at++;
    }
  }

  /** Puts what `import` lines name in their place, as long as one stands here. */
  async #imports(): Promise<void> {
    for (;;) {
      const token = this.#tokens[this.#at];
      if (token?.text !== 'import' || !token.first) return;
      let end = this.#at + 1;
      while (this.#tokens[end] && !this.#tokens[end]?.first && this.#tokens[end]?.text !== '}') end++;
      const args = this.#tokens.slice(this.#at + 1, end);
      const [what] = args;
      if (!what || args.length !== 1)
        throw new CorefileError(token, 'import takes one argument: a snippet, a file or a pattern');
      const tokens = await this.#imported(what);
      this.#tokens.splice(
        this.#at,
        end - this.#at,
        ...tokens.map((one, i) => (i === 0 ? { ...one, first: true } : one)),
      );
      const next = this.#tokens[this.#at + tokens.length];
      if (next && !next.first && next.text !== '}')
        throw new CorefileError(token, 'import takes one argument: a snippet, a file or a pattern');
    }
  }

  async #imported(what: Token): Promise<readonly Token[]> {
    const snippet = this.#snippets.get(what.text);
    if (snippet) {
      if (this.#snippetsLeft-- <= 0) throw new CorefileError(what, 'snippets import each other in a circle');
      return snippet;
    }
    const path = this.#doors.relativeTo(what.file, what.text);
    if (/[[\]]/.test(path) || (path.match(/[*?]/g) ?? []).length > 1)
      throw new CorefileError(what, `the pattern ${what.text} may hold one * or one ?, and no [ ]`);
    const paths = /[*?]/.test(path) ? await this.#doors.glob(path) : [path];
    if (paths.length === 0)
      this.#doors.warn(`${what.file}:${what.line}: no file matches ${what.text}; nothing is imported`);
    const tokens: Token[] = [];
    for (const one of paths) {
      if (this.#filesLeft-- <= 0) throw new CorefileError(what, 'files import each other in a circle');
      const text = await this.#doors.readText(one);
      if (text === undefined)
        throw new CorefileError(
          what,
          `cannot import ${what.text}: there is no such snippet before this line, and no such file`,
        );
      tokens.push(...tokensOf(text, one, this.#doors.env));
    }
    return tokens;
  }

  #unclosed(near: Place | undefined): CorefileError {
    return new CorefileError(near ?? { file: this.#file, line: 1 }, 'the file ends before the } of this block');
  }
}
