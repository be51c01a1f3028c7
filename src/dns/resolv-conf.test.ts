import { describe, expect, test } from 'vitest';
import { isOurselves, parseResolvConf } from './resolv-conf.ts';
import { parseUpstream, upstreamText } from './upstream.ts';
import { ip } from '../../test/support/values.ts';

describe('upstream servers', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1:53'],
    ['10.0.0.1:5353', '10.0.0.1:5353'],
    ['fd00::1', '[fd00::1]:53'],
    ['[fd00::1]', '[fd00::1]:53'],
    ['[fd00::1]:5353', '[fd00::1]:5353'],
  ])('%s is read', (text, meant) => {
    const server = parseUpstream(text);
    expect(server && upstreamText(server)).toBe(meant);
  });

  test.each([
    '',
    'dns.example.test',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    '10.0.0.1:',
    '[fd00::1',
    '10.0.0',
    'fe80::1%eth0',
  ])('%j is refused', (text) => {
    expect(parseUpstream(text)).toBeUndefined();
  });
});

test('resolv.conf gives its nameservers in order, and those that cannot be used', () => {
  const text =
    '# by hand\nsearch a.test\nnameserver 10.0.0.1\n;nameserver 10.0.0.9\nnameserver\tfd00::1 # two\nnameserver fe80::1%eth0\r\nnameserver\n';
  const conf = parseResolvConf(text);
  expect(conf.servers.map(upstreamText)).toEqual(['10.0.0.1:53', '[fd00::1]:53']);
  expect(conf.unusable).toEqual(['fe80::1%eth0']);
});

describe('an upstream that is this server', () => {
  const own = [ip('192.168.0.2'), ip('127.0.0.1')];
  test.each([
    ['the same address and port', '127.0.0.1:53', '127.0.0.1', 53, true],
    ['another port', '127.0.0.1:54', '127.0.0.1', 53, false],
    ['another loopback address', '127.0.0.53:53', '127.0.0.1', 53, false],
    ['a loopback address, when listening on all', '127.0.0.53:53', '0.0.0.0', 53, true],
    ['an address of the machine, when listening on all', '192.168.0.2:53', '0.0.0.0', 53, true],
    ['an address elsewhere, when listening on all', '192.168.0.1:53', '0.0.0.0', 53, false],
    ['the other family, when listening on all of one', '[::1]:53', '0.0.0.0', 53, false],
  ])('%s', (_what, upstream, address, port, loops) => {
    const server = parseUpstream(upstream);
    expect(server && isOurselves(server, [{ address: ip(address), port }], own)).toBe(loops);
  });
});
