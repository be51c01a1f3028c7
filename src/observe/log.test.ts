import { describe, expect, test } from 'vitest';
import { createLogger } from './log.ts';

function logger(format: 'text' | 'json', verbosity = 0) {
  const lines: string[] = [];
  let now = 0;
  const log = createLogger({ format, verbosity, write: (line) => lines.push(line), now: () => now });
  return { log, lines, pass: (ms: number) => (now += ms) };
}

describe('the log', () => {
  test('writes one line with the part, the message and the fields', () => {
    const { log, lines } = logger('text');
    log.named('rules').info('rules in force', { revision: 7, text: 'two words', left: undefined });
    expect(lines).toEqual(['1970-01-01T00:00:00.000Z INFO  rules: rules in force revision=7 text="two words"\n']);
  });

  test('writes JSON for machines', () => {
    const { log, lines } = logger('json');
    log.warn('careful', { n: 1 });
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      time: '1970-01-01T00:00:00.000Z',
      level: 'warn',
      message: 'careful',
      n: 1,
    });
  });

  test('a field cannot forge a second line', () => {
    const { log, lines } = logger('text');
    log.info('object', { name: 'a\n1970 ERROR forged' });
    log.info('object a\n1970 ERROR forged');
    expect(lines.map((line) => line.split('\n').length)).toEqual([2, 2]);
  });

  test('debug lines come from -v 4 on', () => {
    const quiet = logger('text', 3);
    quiet.log.debug('x');
    const loud = logger('text', 4);
    loud.log.debug('x');
    expect([quiet.lines.length, loud.lines.length]).toEqual([0, 1]);
  });

  test('a warning that repeats is counted, not repeated, and the count is told', () => {
    const { log, lines, pass } = logger('text');
    for (let i = 0; i < 18; i++) log.warn('again');
    expect(lines).toHaveLength(1);
    pass(10_000);
    log.warn('again');
    expect(lines[1]).toContain('repeated="17 times in 10 s"');
    log.warn('another');
    expect(lines).toHaveLength(3);
  });
});
