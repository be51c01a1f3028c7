import { expect, test } from 'vitest';
import { Admission, connectionLimit, shareOfFiles, type AdmissionNews } from './admission.ts';

function admission(maxConnections: number, maxBufferedBytes: number) {
  const told: AdmissionNews[] = [];
  return { told, admission: new Admission({ maxConnections, maxBufferedBytes }, (news) => void told.push(news)) };
}

const none = (): number => 0;

test('refuses beyond the limit, tells it once, and tells how many it was when a tenth is free again', () => {
  const { told, admission: door } = admission(10, 1000);
  expect(door.admit(9, none, 0)).toBe(undefined);
  expect([door.admit(10, none, 1), door.admit(10, none, 2)]).toEqual(['connections', 'connections']);
  expect(told).toEqual([{ kind: 'begins', excess: 'connections' }]);
  expect(door.admit(9, none, 3)).toBe(undefined);
  expect(told).toEqual([
    { kind: 'begins', excess: 'connections' },
    { kind: 'over', excess: 'connections', refused: 2 },
  ]);
});

test('measures what waits in buffers ten times a second at most', () => {
  const { told, admission: door } = admission(10, 1000);
  let measured = 0;
  const measure = (bytes: number) => (): number => {
    measured++;
    return bytes;
  };
  expect(door.admit(1, measure(2000), 0)).toBe('memory');
  expect(door.admit(1, measure(0), 50)).toBe('memory');
  expect(door.admit(1, measure(0), 100)).toBe(undefined);
  expect(measured).toBe(2);
  expect(told.map(({ kind }) => kind)).toEqual(['begins', 'over']);
});

test.each(
  [64, 256, 1024, 20_000, 1_048_576].flatMap((files) => [
    [files, 'by-descriptors'] as const,
    [files, 1_000_000] as const,
  ]),
)('of %i open files connections and flows (%s) leave some for the rest', (files, asked) => {
  const { connections, flows } = shareOfFiles(files, asked);
  expect(connections).toBeGreaterThan(0);
  expect(flows).toBeGreaterThan(0);
  expect(connections * 2 + flows).toBeLessThan(files);
});

test('connections are bounded by files and, where nobody asks for more, by memory', () => {
  expect(connectionLimit('by-descriptors', 20_000, 'by-descriptors')).toBe(
    shareOfFiles(20_000, 'by-descriptors').connections,
  );
  expect(connectionLimit('by-descriptors', 1_048_576, 'by-descriptors')).toBe(65_536);
  expect(connectionLimit(200_000, 1_048_576, 'by-descriptors')).toBe(200_000);
  expect(connectionLimit(5_000, 200, 100)).toBe(shareOfFiles(200, 100).connections);
  expect(shareOfFiles(1_048_576, 'by-descriptors').flows).toBe(4096);
  expect(shareOfFiles(1_048_576, 50_000).flows).toBe(50_000);
});
