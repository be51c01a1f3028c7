import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { frame, FrameReader } from './frame.ts';

test('messages come out whole and in order, however the stream is cut', () => {
  const message = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), fc.array(fc.nat(40), { minLength: 1 }), (messages, cuts) => {
      const stream = Buffer.concat(messages.map(frame));
      const reader = new FrameReader();
      const read: Buffer[] = [];
      for (let at = 0, i = 0; at < stream.length; i++) {
        const next = at + 1 + (cuts[i % cuts.length] ?? 0);
        read.push(...reader.push(stream.subarray(at, next)));
        at = next;
      }
      expect(read.map((one) => one.toString('hex'))).toEqual(messages.map((one) => one.toString('hex')));
      expect(reader.partial).toBe(false);
    }),
  );
});

test('an unfinished message is kept and said to be partial', () => {
  const reader = new FrameReader();
  expect(reader.push(Buffer.from([0]))).toEqual([]);
  expect(reader.push(Buffer.from([2, 7]))).toEqual([]);
  expect(reader.partial).toBe(true);
  expect(reader.push(Buffer.from([8]))).toEqual([Buffer.from([7, 8])]);
  expect(reader.partial).toBe(false);
});
