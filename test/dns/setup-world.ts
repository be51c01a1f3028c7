// Setups with a cluster of their own: an API server, what follows it as the Corefile needs it, and the plane.

import { parseRecord } from '../../src/dns/record-text.ts';
import { encodeReply } from '../../src/dns/encode.ts';
import type { Reply } from '../../src/dns/reply.ts';
import { FLAG, RCODE, RR } from '../../src/dns/wire/types.ts';
import { lowerName } from '../../src/dns/wire/name.ts';
import { isJson } from '../support/api-server/json.ts';
import { startTestApiServer, type TestApiServer } from '../support/api-server/server.ts';
import { followCluster, serveCorefile, type ClusterFeed, type CorefileWorld } from './corefile-world.ts';
import type { UpstreamAsked } from './fake-upstream.ts';
import { CLUSTER_OBJECTS } from './query-cases.ts';

export interface Setup {
  readonly corefile: string;
  /** Beside the Corefile. */
  readonly files?: Readonly<Record<string, string>>;
  /** The cluster of `query-cases.ts` by default. */
  readonly objects?: readonly unknown[];
  /** The API server never answers. */
  readonly unreachable?: boolean;
}

export interface SetupCase {
  readonly id: string;
  readonly setup: string;
  readonly name: string;
  readonly type: string;
  /** The address that asks, of 127.0.0.0/8. */
  readonly client?: string;
  readonly tcp?: boolean;
  readonly axfr?: boolean;
  readonly edns?: { readonly version: number; readonly size: number };
  readonly order?: string;
  readonly opt?: { readonly size: number; readonly do: number; readonly ede: number };
  readonly flags?: Readonly<Record<string, number>>;
  readonly rcode: string;
  readonly answer: readonly string[];
  readonly authority: readonly string[];
  readonly additional: readonly string[];
}

export interface SetupWorld extends CorefileWorld {
  readonly api: TestApiServer | undefined;
  close(): Promise<void>;
}

export async function startSetup(setup: Setup, upstream: string): Promise<SetupWorld> {
  let api: TestApiServer | undefined;
  let feed: ClusterFeed | undefined;
  const text = setup.corefile.replaceAll('UPSTREAM', upstream).replace('lameduck 5s', 'lameduck 10ms');
  if (!setup.unreachable) {
    api = await startTestApiServer();
    // A Pod with an address that the test can ask from.
    const objects: unknown = JSON.parse(
      JSON.stringify(setup.objects ?? CLUSTER_OBJECTS).replaceAll('10.244.9.9', '127.0.0.9'),
    );
    if (Array.isArray(objects)) for (const object of objects) if (isJson(object)) api.apply(object);
    feed = await followCluster(api.url, text);
  }
  const served = await serveCorefile(text, feed, setup.files);
  return {
    ...served,
    api,
    close: async () => {
      await served.plane.stop();
      await feed?.close();
      await api?.stop();
    },
  };
}

const RECORDS = [
  'www.example.test. 300 IN A 192.0.2.53',
  'short.example.test. 2 IN A 192.0.2.54',
  'zero.example.test. 0 IN A 192.0.2.55',
  'long.example.test. 86400 IN A 192.0.2.56',
  'alias.example.test. 300 IN CNAME www.example.test.',
  'multi.example.test. 300 IN A 192.0.2.61',
  'multi.example.test. 300 IN A 192.0.2.62',
  'tc.example.test. 300 IN A 192.0.2.90',
  'lb.example.test. 300 IN A 192.0.2.80',
  'v4only.example.test. 300 IN A 192.0.2.99',
  '7.113.0.203.in-addr.arpa. 300 IN PTR host7.example.test.',
].flatMap((line) => parseRecord(line) ?? []);
const SOA = parseRecord('example.test. 3600 IN SOA ns.example.test. hostmaster.example.test. 1 7200 900 1209600 900');

/** A resolver that knows a few names below example.test. */
export function upstreamAnswer({ name, query, transport }: UpstreamAsked): readonly Buffer[] {
  const code = (rcode: number): readonly Buffer[] => [encodeReply(query, { kind: 'code', rcode }, 512, () => 0)];
  if (name === 'fail.example.test.') return code(RCODE.SERVFAIL);
  if (name === 'refused.example.test.') return code(RCODE.REFUSED);
  const owned = RECORDS.filter(({ owner }) => owner !== undefined && lowerName(owner) === query.key);
  const alias = owned.find(({ type }) => type === RR.CNAME);
  const target = alias && RECORDS.filter(({ owner, type }) => owner === alias.data && type === query.type);
  const answer = alias ? [alias, ...(target ?? [])] : owned.filter(({ type }) => type === query.type);
  const cut = name === 'tc.example.test.' && transport === 'udp';
  const reply: Reply = {
    kind: 'message',
    flags: FLAG.RA | (cut ? FLAG.TC : 0),
    rcode: owned.length === 0 ? RCODE.NXDOMAIN : RCODE.NOERROR,
    answer: cut ? [] : answer,
    authority: answer.length === 0 && SOA ? [SOA] : [],
    additional: [],
  };
  return [encodeReply(query, reply, 4096, () => 0)];
}
