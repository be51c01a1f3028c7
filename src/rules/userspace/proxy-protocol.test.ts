import { expect, test } from 'vitest';
import type { Ip } from '../../lib/ip.ts';
import { proxyHeader } from './proxy-protocol.ts';

const SIGNATURE = '0d0a0d0a000d0a515549540a';

const at = (ip: string, port: number) => ({ ip: ip as Ip, port });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('an IPv4 client: signature, PROXY, TCP over IPv4, twelve bytes of addresses and ports', () => {
  expect(hex(proxyHeader(at('203.0.113.2', 40_000), at('10.96.0.1', 80)))).toBe(
    [SIGNATURE, '21', '11', '000c', 'cb007102', '0a600001', '9c40', '0050'].join(''),
  );
});

test('an IPv6 client: thirty-six bytes', () => {
  expect(hex(proxyHeader(at('2001:db8::1', 1), at('fd00::2', 443)))).toBe(
    [
      SIGNATURE,
      '21',
      '21',
      '0024',
      '20010db8000000000000000000000001',
      'fd000000000000000000000000000002',
      '0001',
      '01bb',
    ].join(''),
  );
});

test('two families tell nothing of the client', () => {
  expect(hex(proxyHeader(at('203.0.113.2', 1), at('fd00::2', 443)))).toBe(`${SIGNATURE}20000000`);
});
