import { describe, expect, test } from 'vitest';
import { parseArguments } from './args.ts';
import { UsageError } from './errors.ts';
import { clusterDomain, listenAddress, nodePortRange, rulesConfig, rulesMode, upstreams } from './settings.ts';

describe('words are read as the replaced programs read theirs', () => {
  test.each([
    [['--node-name', 'a']],
    [['--node-name=a']],
    [['-node-name', 'a']],
    [['--hostname-override=a']],
    [['--node-name=x', '--node-name=a']],
  ])('%j', (words) => {
    expect(parseArguments('proxy', words).text('node-name')).toBe('a');
  });

  test('-v in all its forms', () => {
    for (const words of [['-v', '4'], ['-v=4'], ['-v4'], ['--v=4']]) {
      expect(parseArguments('up', words).text('v')).toBe('4');
    }
  });

  test('lists repeat, and hold commas, but for folders', () => {
    const args = parseArguments('up', ['--manifests', 'a,b', '--manifests=c', '--cluster-cidr=10.0.0.0/8, fd00::/64']);
    expect(args.list('manifests')).toEqual(['a,b', 'c']);
    expect(args.list('cluster-cidr')).toEqual(['10.0.0.0/8', 'fd00::/64']);
  });

  test('switches take no word from the line', () => {
    const args = parseArguments('proxy', ['--masquerade-all', '--mode', 'nftables']);
    expect(args.isSet('masquerade-all')).toBe(true);
    expect(args.text('mode')).toBe('nftables');
    expect(parseArguments('proxy', ['--masquerade-all=false']).isSet('masquerade-all')).toBe(false);
  });
});

describe('a mistake is one sentence with the mend', () => {
  test.each([
    [
      'an unknown flag, with the one that was meant',
      ['--manifest', 'x'],
      /unknown flag --manifest for `fairlead up`; did you mean --manifests\?/,
    ],
    [
      'a flag of another command',
      ['--http-port', '80'],
      /--http-port is not one of `fairlead up`; it belongs to: ingress/,
    ],
    ['a value that is missing', ['--mode'], /--mode needs a value/],
  ])('%s', (_what, words, message) => {
    expect(() => parseArguments('up', words)).toThrow(UsageError);
    expect(() => parseArguments('up', words)).toThrow(message);
  });

  const up = (...words: string[]) => parseArguments('up', words);
  test.each<[string, () => unknown, RegExp]>([
    [
      'an address without a port',
      () => listenAddress(up('--http-bind-address=127.0.0.1'), 'http-bind-address', ''),
      /IP:PORT/,
    ],
    [
      'a port out of range',
      () => listenAddress(up('--http-bind-address=127.0.0.1:70000'), 'http-bind-address', ''),
      /IP:PORT/,
    ],
    ['a mode that is none', () => rulesMode(up('--mode=ebpf'), 'auto'), /not "ebpf"/],
    [
      'a range that is none',
      () => rulesConfig(up('--cluster-cidr=10.0.0.0/33')),
      /"10\.0\.0\.0\/33" is no address range/,
    ],
    ['two ranges of one family', () => rulesConfig(up('--cluster-cidr=10.0.0.0/8,11.0.0.0/8')), /one of each family/],
    ['primary beside a range', () => rulesConfig(up('--nodeport-addresses=primary,10.0.0.0/8')), /stands alone/],
    ['NodePorts the wrong way round', () => nodePortRange(up('--service-node-port-range=3000-2000')), /FROM-TO/],
    ['a domain that is none', () => clusterDomain(up('--cluster-domain=a..b')), /DNS name/],
    ['an upstream that is a name', () => upstreams(up('--upstream=dns.example.com')), /IP or IP:PORT/],
    ['a switch that is neither', () => up('--masquerade-all=perhaps').isSet('masquerade-all'), /true or false/],
  ])('%s', (_what, call, message) => {
    expect(call).toThrow(UsageError);
    expect(call).toThrow(message);
  });
});

test('a switch is read as Go reads its own', () => {
  const words = ['1', 't', 'T', 'true', 'TRUE', 'True', '0', 'f', 'F', 'false', 'FALSE', 'False'];
  const read = words.map((word) => parseArguments('up', [`--masquerade-all=${word}`]).isSet('masquerade-all'));
  expect(read).toEqual(words.map((_word, i) => i < 6));
});
