// A thread that checks passwords whose check takes long: a tenth of a second in which nothing else goes on in it.

import { threadSide } from '../system/worker-thread.ts';
import { checkSlowly } from './htpasswd.ts';
import type { PasswordAnswer, PasswordQuestion } from './password-thread.ts';

const thread = threadSide();

/** One after the other: side by side each would only take longer. */
let turn: Promise<void> = Promise.resolve();

thread.onMessage((message) => {
  turn = turn.then(() => answer(message as PasswordQuestion));
});

async function answer({ id, password, hash }: PasswordQuestion): Promise<void> {
  const fits = await checkSlowly(password, hash);
  thread.post({ id, fits } satisfies PasswordAnswer);
}
