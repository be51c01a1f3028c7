import type { Answer } from './answer.ts';
import { AuthAsking } from './auth-question.ts';
import type { Engine } from './engine.ts';
import type { Edit, Passed } from './forward.ts';

/** What became of it: an answer, or that the request goes on, with what the auth service gave. */
type OnEntry = (outcome: Answer | Passed | undefined) => void;

/** What stands before a request that goes on: a check that takes time, then a question to an auth service. */
export class Entry {
  readonly #engine: Engine;
  readonly #onEntry: OnEntry;
  #asking: AuthAsking | undefined;
  #over = false;

  /** `onEntry` is called once, unless `cancel` is. */
  constructor(engine: Engine, onEntry: OnEntry) {
    this.#engine = engine;
    this.#onEntry = onEntry;
  }

  /** `question`: the text of the question that the edit has. */
  begin(edit: Edit, question: string | undefined): void {
    if (!edit.gate) {
      this.#ask(edit, question);
      return;
    }
    edit.gate((verdict) => {
      if (this.#over) return;
      if (verdict.kind === 'refused') this.#end(verdict.answer);
      else if (verdict.kind === 'next') this.#ask(edit, question);
      else this.#end(undefined);
    });
  }

  cancel(): void {
    this.#over = true;
    this.#asking?.cancel();
  }

  #ask({ question, passed }: Edit, text: string | undefined): void {
    if (!question || text === undefined) {
      this.#end(passed);
      return;
    }
    this.#asking = new AuthAsking(this.#engine, question, text, (verdict) => {
      this.#asking = undefined;
      this.#end(question.judge(verdict));
    });
  }

  #end(outcome: Answer | Passed | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#onEntry(outcome);
  }
}
