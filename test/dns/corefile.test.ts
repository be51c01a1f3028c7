// Corefiles: what is taken, what is refused, and where the mistake is said to be.

import { describe, expect, test } from 'vitest';
import { loadCorefile, type LoadedCorefile } from '../../src/dns/corefile/load.ts';
import { nameText } from '../../src/dns/wire/name.ts';
import type { Files } from '../../src/system/files.ts';
import { COREFILE_CASES } from './corefile-cases.ts';

/** Files by path, as if they were there. */
function load(
  files: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>> = {},
): Promise<LoadedCorefile> {
  const doors: Files = {
    readText: async (path) => {
      const text = files[path];
      if (text === undefined) throw new Error('ENOENT');
      return text;
    },
    list: async () => ({ files: new Map(Object.keys(files).map((path) => [path, ''])), folders: [] }),
    watch: () => ({ close: () => {} }),
  };
  return loadCorefile({ path: '/etc/coredns/Corefile', files: doors, env: (name) => env[name] });
}

const one = (
  corefile: string,
  others: Readonly<Record<string, string>> = {},
  env: Readonly<Record<string, string>> = {},
) => load({ '/etc/coredns/Corefile': corefile, ...others }, env);

async function mistake(corefile: string, others: Readonly<Record<string, string>> = {}): Promise<string> {
  const loaded = await one(corefile, others);
  return loaded.kind === 'mistake' ? loaded.message : 'taken';
}

async function pluginsOf(corefile: string, others: Readonly<Record<string, string>> = {}): Promise<readonly string[]> {
  const loaded = await one(corefile, others);
  if (loaded.kind === 'mistake') throw new Error(loaded.message);
  return loaded.corefile.blocks.flatMap(({ handlers }) => [...handlers.keys()]);
}

describe('a Corefile is taken or refused as CoreDNS does', () => {
  test.each(COREFILE_CASES)('$name', async ({ corefile, listen }) => {
    const loaded = await one(corefile, { '/etc/coredns/kc': '' }, { DCPORT: '1053' });
    expect(outcomeOf(loaded)).toEqual(listen?.toSorted() ?? 'a mistake with its place');
  });
});

/** What is served, or that the mistake is said with its place. */
function outcomeOf(loaded: LoadedCorefile): readonly string[] | string {
  if (loaded.kind === 'mistake')
    return /^\/etc\/coredns\/Corefile:\d+: /.test(loaded.message) ? 'a mistake with its place' : loaded.message;
  const { blocks } = loaded.corefile;
  return blocks.flatMap(({ zones, port }) => zones.map((zone) => `${nameText(zone)}:${port}`)).toSorted();
}

describe('Corefiles of distributions', () => {
  const KUBEADM = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`;
  const K3S = `.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    hosts /etc/coredns/NodeHosts {
      ttl 60
      reload 15s
      fallthrough
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
    import /etc/coredns/custom/*.override
}
import /etc/coredns/custom/*.server
`;
  const AKS = `.:53 {
    errors
    ready
    health {
      lameduck 5s
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
      ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
    import custom/*.override
    template ANY ANY internal.cloudapp.net {
      match "^(?:[^.]+\\.){4,}internal\\.cloudapp\\.net\\.$"
      rcode NXDOMAIN
      fallthrough
    }
    template ANY ANY reddog.microsoft.com {
      rcode NXDOMAIN
    }
}
import custom/*.server
`;
  const NODE_LOCAL = `cluster.local:53 {
    errors
    cache {
        success 9984 30
        denial 9984 5
    }
    reload
    loop
    bind 127.0.0.1
    forward . 10.96.0.10 {
        force_tcp
    }
    prometheus :9253
    health 127.0.0.1:8080
}
in-addr.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind 127.0.0.1
    forward . 10.96.0.10 {
        force_tcp
    }
    prometheus :9253
}
.:53 {
    errors
    cache 30
    reload
    loop
    bind 127.0.0.1
    forward . /etc/resolv.conf
    prometheus :9253
}
`;
  const files = { '/etc/resolv.conf': 'nameserver 192.0.2.53\n', '/etc/coredns/NodeHosts': '10.0.0.1 node-a\n' };

  test.each([
    ['kubeadm', KUBEADM],
    ['k3s', K3S],
    ['AKS', AKS],
    ['node-local', NODE_LOCAL],
  ])('%s is taken', async (_, corefile) => {
    expect(await one(corefile, files)).toMatchObject({ kind: 'corefile' });
  });

  test('files of the custom folder come into the block and beside it', async () => {
    const custom = {
      '/etc/coredns/custom/log.override': 'log\n',
      '/etc/coredns/custom/corp.server': 'corp.test:53 {\n  forward . 192.0.2.1\n}\n',
    };
    const loaded = await one(K3S, { ...files, ...custom });
    if (loaded.kind === 'mistake') throw new Error(loaded.message);
    const { blocks } = loaded.corefile;
    expect(blocks.map(({ zones }) => zones.map(nameText))).toEqual([['.'], ['corp.test.']]);
    expect(blocks[0]?.queryLogs).toHaveLength(1);
  });
});

describe('mistakes say where they are', () => {
  test('with the plugin that may have been meant', async () => {
    expect(await mistake('. {\n  errrors\n}\n')).toBe(
      '/etc/coredns/Corefile:2: there is no plugin "errrors"; did you mean errors?',
    );
  });

  test('in an imported file', async () => {
    const said = await mistake('. {\n  import more\n}\n', { '/etc/coredns/more': 'errors\nnosuch\n' });
    expect(said).toBe('/etc/coredns/more:2: there is no plugin "nosuch"');
  });

  test.each([
    [
      'a plugin that is not built',
      '.:53 {\n  errors\n  dnssec\n}',
      '3: the plugin "dnssec" is known and not built yet',
    ],
    ['a } behind a plugin', '. {\n  whoami }', '2: the } that ends a block has to stand on a line of its own'],
    ['a } behind an option', '. {\n  log {\n    class all }\n}', '3: the } that ends a block has to stand'],
    ['a code that is an answer', '. {\n  forward . 127.0.0.1 {\n    failover NOERROR\n  }\n}', '3: failover: NOERROR'],
    ['words that a plugin does not take', '. {\n  whoami x\n}', '2: whoami takes 0 arguments, not 1'],
    [
      'an option that is not built',
      '. {\n  prometheus {\n    tls web.yaml\n  }\n}',
      '3: prometheus: "tls" is not built yet',
    ],
    [
      'an option that there is not',
      '. {\n  forward . 192.0.2.1 {\n    nosuch\n  }\n}',
      '3: forward has no option "nosuch"',
    ],
    ['a transport that is not built', 'quic://. {\n  whoami\n}', '1: quic:// is not built yet'],
    ['TLS without a certificate', 'tls://. {\n  whoami\n}', '1: tls:// needs a certificate'],
    ['a pattern that takes more than linear time', '. {\n  rewrite name regex (a)\\1 b\n}', '2: rewrite: '],
    [
      'a TTL out of range',
      '. {\n  kubernetes cluster.local {\n    ttl 3601\n  }\n}',
      '3: ttl is a number from 0 to 3600',
    ],
    [
      'a zone served twice',
      'a.test {\n  whoami\n}\na.test {\n  whoami\n}',
      '4: the zone a.test. is served on port 53 twice',
    ],
    ['snippets that import themselves', '(s) {\n  import s\n}\n. {\n  import s\n}', '2: snippets import each other'],
  ])('%s', async (_, corefile, said) => {
    expect(await mistake(corefile)).toContain(`/etc/coredns/Corefile:${said}`);
  });
});

test('environment variables, quotes and comments are read as CoreDNS reads them', async () => {
  const text = '# first\n{$ZONE}:{%PORT%} { # second\n  chaos "two words" name#third\n  whoami\n}\n';
  const loaded = await one(text, {}, { ZONE: 'A.test', PORT: '5300' });
  if (loaded.kind === 'mistake') throw new Error(loaded.message);
  const [block] = loaded.corefile.blocks;
  expect(block?.zones.map(nameText)).toEqual(['a.test.']);
  expect(block?.port).toBe(5300);
});

test('a file with one block needs no braces', async () => {
  expect(await pluginsOf('.:53\nwhoami\nany\n')).toEqual(['whoami', 'any']);
});

test('comments and white space leave the hash as it is', async () => {
  const hash = async (text: string): Promise<string> => {
    const loaded = await one(text);
    return loaded.kind === 'corefile' ? loaded.corefile.hash : '';
  };
  expect(await hash('. {\n  any\n  whoami\n}')).toBe(await hash('# x\n.   { \n any # y\n\n whoami\n }\n'));
  expect(await hash('. {\n  any\n}')).not.toBe(await hash('. {\n  whoami\n}'));
});
