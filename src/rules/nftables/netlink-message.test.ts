import { expect, test } from 'vitest';
import { emptyDraft, readMessages } from './netlink-message.ts';

/** As the kernel writes it on a little-endian machine; the tests' machines are. */
function attribute(type: number, ...data: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(data.map((each) => (typeof each === 'string' ? Buffer.from(`${each}\0`) : each)));
  const head = Buffer.alloc(4);
  head.writeUInt16LE(4 + body.length, 0);
  head.writeUInt16LE(type, 2);
  return Buffer.concat([head, body, Buffer.alloc(-body.length & 3)]);
}

function message(type: number, ...attributes: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([2, 0, 0, 0]), ...attributes]);
  const head = Buffer.alloc(16);
  head.writeUInt32LE(16 + body.length, 0);
  head.writeUInt16LE((10 << 8) | type, 4);
  return Buffer.concat([head, body]);
}

function element(key: string, ...data: readonly Buffer[]): Buffer {
  return attribute(0x8001, attribute(0x8001, attribute(1, Buffer.from(key, 'hex'))), ...data);
}

function elements(table: string, set: string, ...list: readonly Buffer[]): Buffer {
  return message(12, attribute(1, table), attribute(2, set), attribute(0x8003, ...list));
}

const KEY = 'ac1e0001 06000000 00500000'.replaceAll(' ', '');

test('tables, chains with their rules, sets and elements are read, of our table only', () => {
  const draft = emptyDraft(4);
  const goto = attribute(0x8002, attribute(1, Buffer.from('fffffffc', 'hex')), attribute(2, 'refuse'));
  readMessages(
    Buffer.concat([
      message(0, attribute(1, 'other')),
      message(0, attribute(1, 'fairlead')),
      message(3, attribute(1, 'fairlead'), attribute(3, 'empty')),
      message(6, attribute(1, 'fairlead'), attribute(2, 'pick-1')),
      message(6, attribute(1, 'other'), attribute(2, 'pick-1')),
      message(9, attribute(1, 'fairlead'), attribute(2, 'endpoints')),
      elements(
        'fairlead',
        'endpoints',
        element(`${KEY}03000100`, attribute(0x8002, attribute(1, Buffer.from('0a0000011f900000', 'hex')))),
      ),
      elements('fairlead', 'refusals', element(KEY, attribute(0x8002, goto))),
      elements('fairlead', 'cluster-ips', element('ac1e0001')),
      elements('other', 'cluster-ips', element('ac1e0002')),
      elements('fairlead', 'affinity', element('00000001')),
    ]),
    draft,
  );
  expect(draft).toEqual({
    family: 4,
    found: true,
    chains: new Map([
      ['empty', 0],
      ['pick-1', 1],
    ]),
    containers: new Set(['endpoints']),
    elements: new Map([
      ['4/endpoints/172.30.0.1 . tcp . 80 . 65539', '10.0.0.1 . 8080'],
      ['4/refusals/172.30.0.1 . tcp . 80', 'goto refuse'],
      ['4/cluster-ips/172.30.0.1', ''],
    ]),
  });
});

test('what we never write is an error, not another element', () => {
  const drop = attribute(0x8002, attribute(0x8002, attribute(1, Buffer.from('00000001', 'hex'))));
  const bad = [
    elements('fairlead', 'refusals', element(KEY, drop)),
    elements('fairlead', 'refusals', element(KEY.slice(0, 16), drop)),
    elements('fairlead', 'services', element(KEY)),
    Buffer.alloc(32),
    message(0, attribute(1, 'fairlead')).fill(0xff, 20, 22),
  ];
  for (const bytes of bad) expect(() => readMessages(bytes, emptyDraft(4))).toThrow(TypeError);
});
