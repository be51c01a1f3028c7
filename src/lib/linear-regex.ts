// Regular expressions of Ingress objects, run in time linear in the text: a client chooses the text, and a tenant the
// expression, so a backtracking matcher would be theirs to stop. A program of threads that move together (Thompson, Pike).

import { parsePattern, type Node } from './regex-syntax.ts';

/** Instructions of one program: bounds the time for each character. */
const MAX_PROGRAM = 1000;

type Instruction =
  | { readonly op: 'char'; readonly test: (code: number) => boolean }
  | { readonly op: 'split'; first: number; second: number }
  | { readonly op: 'jump'; to: number }
  | { readonly op: 'save'; readonly slot: number }
  | { readonly op: 'start' | 'end' | 'word' | 'notWord' }
  | { readonly op: 'match' };

export interface LinearRegex {
  readonly source: string;
  /** Numbers of the groups that have a name: `(?<name>…)`, `(?P<name>…)`. */
  readonly names: ReadonlyMap<string, number>;
  /** The groups of the leftmost match, `[0]` the whole; a group that took no part is empty. Undefined without a match. */
  exec(text: string): readonly string[] | undefined;
  test(text: string): boolean;
}

export type CompiledRegex =
  | { readonly kind: 'regex'; readonly regex: LinearRegex }
  | { readonly kind: 'refused'; readonly reason: string };

export interface RegexOptions {
  readonly ignoreCase: boolean;
  /** The match starts where the text does. */
  readonly anchored: boolean;
}

/** Refused with a reason: what PCRE has and linear time has not (look-around, back references), and what is too large. */
export function compileRegex(source: string, options: RegexOptions): CompiledRegex {
  const parsed = parsePattern(source, options.ignoreCase);
  if (parsed.kind === 'refused') return parsed;
  const program: Instruction[] = [];
  program.push({ op: 'save', slot: 0 });
  if (!emit(program, parsed.node)) {
    return { kind: 'refused', reason: 'the expression is too large; write fewer or smaller repetitions' };
  }
  program.push({ op: 'save', slot: 1 }, { op: 'match' });
  return { kind: 'regex', regex: new Program(source, program, parsed, options.anchored) };
}

/** False when the program grows too large. */
function emit(program: Instruction[], node: Node): boolean {
  if (program.length > MAX_PROGRAM) return false;
  switch (node.kind) {
    case 'char':
      program.push({ op: 'char', test: node.test });
      return true;
    case 'assert':
      program.push({ op: node.at });
      return true;
    case 'sequence':
      return node.nodes.every((part) => emit(program, part));
    case 'group': {
      if (node.index === undefined) return emit(program, node.node);
      program.push({ op: 'save', slot: 2 * node.index });
      const fits = emit(program, node.node);
      program.push({ op: 'save', slot: 2 * node.index + 1 });
      return fits;
    }
    case 'choice':
      return emitChoice(program, node.nodes);
    case 'repeat':
      return emitRepeat(program, node.node, node.min, node.max, node.lazy);
  }
}

function emitChoice(program: Instruction[], nodes: readonly Node[]): boolean {
  const [first, ...rest] = nodes;
  if (!first) return true;
  if (rest.length === 0) return emit(program, first);
  const split = { op: 'split' as const, first: program.length + 1, second: 0 };
  program.push(split);
  if (!emit(program, first)) return false;
  const jump = { op: 'jump' as const, to: 0 };
  program.push(jump);
  split.second = program.length;
  const fits = emitChoice(program, rest);
  jump.to = program.length;
  return fits;
}

function emitRepeat(program: Instruction[], node: Node, min: number, max: number | undefined, lazy: boolean): boolean {
  for (let i = 0; i < min; i++) if (!emit(program, node)) return false;
  const splits: { first: number; second: number }[] = [];
  const fork = (): number => {
    const at = program.length;
    const split = { op: 'split' as const, first: at + 1, second: 0 };
    program.push(split);
    splits.push(split);
    return at;
  };
  if (max === undefined) {
    const at = fork();
    if (!emit(program, node)) return false;
    program.push({ op: 'jump', to: at });
  } else {
    for (let i = min; i < max; i++) {
      fork();
      if (!emit(program, node)) return false;
    }
  }
  for (const split of splits) {
    split.second = program.length;
    if (lazy) [split.first, split.second] = [split.second, split.first];
  }
  return true;
}

type Slots = readonly number[];

/** The threads of one step in order of preference. */
interface Threads {
  readonly at: number[];
  readonly slots: Slots[];
}

class Program implements LinearRegex {
  readonly source: string;
  readonly names: ReadonlyMap<string, number>;
  readonly #program: readonly Instruction[];
  readonly #slotCount: number;
  readonly #anchored: boolean;
  /** The step in which an instruction was added last: each is added once a step. */
  readonly #added: Int32Array;

  constructor(
    source: string,
    program: readonly Instruction[],
    { groups, names }: { readonly groups: number; readonly names: ReadonlyMap<string, number> },
    anchored: boolean,
  ) {
    this.source = source;
    this.names = names;
    this.#program = program;
    this.#slotCount = 2 * (groups + 1);
    this.#anchored = anchored;
    this.#added = new Int32Array(program.length);
  }

  test(text: string): boolean {
    return this.#run(text) !== undefined;
  }

  exec(text: string): readonly string[] | undefined {
    const slots = this.#run(text);
    if (!slots) return undefined;
    return Array.from({ length: this.#slotCount / 2 }, (_, i) => {
      const [start, end] = [slots[2 * i] ?? -1, slots[2 * i + 1] ?? -1];
      return start >= 0 && end >= start ? text.slice(start, end) : '';
    });
  }

  #run(text: string): Slots | undefined {
    const none: Slots = Array.from({ length: this.#slotCount }, () => -1);
    let now: Threads = { at: [], slots: [] };
    let matched: Slots | undefined;
    this.#added.fill(-1);
    for (let at = 0; at <= text.length; at++) {
      if (!matched && (at === 0 || !this.#anchored)) this.#add(now, 0, text, at, none);
      if (now.at.length === 0 && (matched || this.#anchored)) break;
      const next: Threads = { at: [], slots: [] };
      const code = at < text.length ? text.charCodeAt(at) : -1;
      // What is added below belongs to the next step; marks of this one must not hide it.
      for (let i = 0; i < now.at.length; i++) {
        const pc = now.at[i] as number;
        const instruction = this.#program[pc] as Instruction;
        const slots = now.slots[i] as Slots;
        if (instruction.op === 'match') {
          matched = slots;
          break;
        }
        if (instruction.op === 'char' && code >= 0 && instruction.test(code)) {
          this.#add(next, pc + 1, text, at + 1, slots);
        }
      }
      now = next;
    }
    return matched;
  }

  /** Follows what takes no character, in order of preference, without recursion. */
  #add(threads: Threads, start: number, text: string, at: number, from: Slots): void {
    const todo: [number, Slots][] = [[start, from]];
    for (let next = todo.pop(); next; next = todo.pop()) {
      const [pc, slots] = next;
      if (this.#added[pc] === at) continue;
      this.#added[pc] = at;
      const instruction = this.#program[pc] as Instruction;
      switch (instruction.op) {
        case 'jump':
          todo.push([instruction.to, slots]);
          break;
        case 'split':
          todo.push([instruction.second, slots], [instruction.first, slots]);
          break;
        case 'save': {
          const saved = slots.slice();
          saved[instruction.slot] = at;
          todo.push([pc + 1, saved]);
          break;
        }
        case 'start':
          if (at === 0) todo.push([pc + 1, slots]);
          break;
        case 'end':
          if (at === text.length) todo.push([pc + 1, slots]);
          break;
        case 'word':
        case 'notWord':
          if (isBoundary(text, at) === (instruction.op === 'word')) todo.push([pc + 1, slots]);
          break;
        case 'char':
        case 'match':
          threads.at.push(pc);
          threads.slots.push(slots);
      }
    }
  }
}

function isBoundary(text: string, at: number): boolean {
  return isWord(text.charCodeAt(at - 1)) !== isWord(text.charCodeAt(at));
}

function isWord(code: number): boolean {
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122) || code === 95;
}
