import { expect, test } from 'vitest';
import { NODE, clusterOf, type ServiceSketch } from '../../../test/rules/cluster.ts';
import { parseFlow, deletion, isStale, placeOfFlow, placeOfQuery } from './flow.ts';
import { staleFlows } from './plan.ts';

const DNS: ServiceSketch = {
  name: 'dns',
  clusterIPs: ['172.30.0.10'],
  protocol: 'UDP',
  port: 53,
  nodePort: 30_053,
  endpoints: ['10.0.0.1:5353', '10.0.0.2:5353@node-b'],
};
const WEB: ServiceSketch = { name: 'web', clusterIPs: ['172.30.0.11'], endpoints: ['10.0.0.1:8080', '10.0.0.2:8080'] };

/** The places to look at with what is stale there: `-x` only x, `!x` all but x, `?` those of nobody too. */
function queries(
  before: readonly ServiceSketch[] | undefined,
  after: readonly ServiceSketch[],
  resetTcp = false,
): readonly string[] {
  const first = before && clusterOf(before);
  const second = clusterOf(after, first);
  return staleFlows(first?.snapshot, second.snapshot, { nodePortIps: NODE.ips, resetTcp }).map((query) => {
    const { stale } = query;
    const mark = stale.kind === 'only' ? '-' : '!';
    const names = [...stale.endpoints].map((name) => `${mark}${name}`).join(' ');
    return `${placeOfQuery(query)}${stale.kind === 'all-but' && stale.untranslated ? ' ?' : ''} ${names}`.trim();
  });
}

test('an endpoint that is gone has its flows looked for at every address, one more asks for nothing', () => {
  const fewer = { ...DNS, endpoints: ['10.0.0.2:5353@node-b'] };
  expect(queries([DNS, WEB], [fewer, WEB])).toEqual([
    'UDP 172.30.0.10:53 ? !10.0.0.2:5353',
    'UDP 192.168.0.2:30053 ? !10.0.0.2:5353',
  ]);
  expect(queries([fewer], [DNS])).toEqual([]);
});

test('a terminating endpoint that serves keeps its flows; so does one that a policy leaves out', () => {
  expect(queries([DNS], [{ ...DNS, endpoints: ['10.0.0.1:5353 terminating', '10.0.0.2:5353@node-b'] }])).toEqual([]);
  expect(queries([DNS], [{ ...DNS, internal: 'Local' }])).toEqual([]);
});

test('the last endpoint, and the first', () => {
  const nobody = { ...DNS, endpoints: [] };
  expect(queries([DNS], [nobody])).toEqual(['UDP 172.30.0.10:53 ?', 'UDP 192.168.0.2:30053 ?']);
  expect(queries([nobody], [{ ...DNS, endpoints: ['10.0.0.1:5353'] }])).toEqual([
    'UDP 172.30.0.10:53 ? !10.0.0.1:5353',
    'UDP 192.168.0.2:30053 ? !10.0.0.1:5353',
  ]);
});

test('a change of the Service alone: its deletion, an address more, a NodePort less', () => {
  expect(queries([DNS, WEB], [WEB])).toEqual(['UDP 172.30.0.10:53 ?', 'UDP 192.168.0.2:30053']);
  const { nodePort: _, ...plain } = DNS;
  expect(queries([DNS], [plain])).toEqual(['UDP 192.168.0.2:30053']);
  expect(queries([plain], [{ ...plain, externalIPs: ['198.51.100.1'] }])).toEqual([
    'UDP 198.51.100.1:53 ? !10.0.0.1:5353 !10.0.0.2:5353',
  ]);
});

test('a start looks at every UDP address', () => {
  expect(queries(undefined, [DNS, WEB])).toEqual([
    'UDP 172.30.0.10:53 ? !10.0.0.1:5353 !10.0.0.2:5353',
    'UDP 192.168.0.2:30053 ? !10.0.0.1:5353 !10.0.0.2:5353',
  ]);
});

test('TCP flows count only when they are to be reset, and only for endpoints that no slice names', () => {
  const fewer = { ...WEB, endpoints: ['10.0.0.1:8080'] };
  expect(queries([WEB], [fewer])).toEqual([]);
  expect(queries([WEB], [fewer], true)).toEqual(['TCP 172.30.0.11:80 -10.0.0.2:8080']);
  expect(queries([WEB], [{ ...WEB, endpoints: ['10.0.0.1:8080', '10.0.0.2:8080 terminating'] }], true)).toEqual([]);
  expect(queries([WEB], [], true)).toEqual(['TCP 172.30.0.11:80 -10.0.0.1:8080 -10.0.0.2:8080']);
});

test('a line of the tool is read, and its flow judged and deleted with all like it', () => {
  const line =
    'udp      17 59 src=10.0.0.9 dst=172.30.0.10 sport=1000 dport=53 [UNREPLIED] src=10.0.0.1 dst=10.0.0.9 sport=5353 dport=1000 mark=0 use=1';
  const flow = parseFlow(line);
  if (!flow) throw new Error('not read');
  expect(placeOfFlow(flow)).toBe('UDP 172.30.0.10:53');
  expect(deletion(flow, 4)).toBe(
    '-D -f ipv4 -p udp --orig-dst 172.30.0.10 --orig-port-dst 53 --reply-src 10.0.0.1 --reply-port-src 5353',
  );
  const query = staleFlows(undefined, clusterOf([DNS]).snapshot, { nodePortIps: [], resetTcp: false })[0];
  if (!query) throw new Error('no query');
  expect(isStale(flow, query)).toBe(false);
  expect(isStale({ ...flow, replyPort: 5354 }, query)).toBe(true);
  expect(isStale({ ...flow, replySource: flow.destination, replyPort: 53 }, query)).toBe(true);
  const tcp =
    'tcp      6 117 TIME_WAIT src=fd00::9 dst=fd00:10:96::b sport=4 dport=80 src=fd00:10::1 dst=fd00::9 sport=8080 dport=4 [ASSURED] mark=0 use=1';
  expect(parseFlow(tcp)).toMatchObject({ protocol: 'TCP', destination: 'fd00:10:96::b', replySource: 'fd00:10::1' });
  expect(
    parseFlow('icmp     1 29 src=10.0.0.9 dst=10.0.0.1 type=8 code=0 id=1 src=10.0.0.1 dst=10.0.0.9 type=0'),
  ).toBeUndefined();
});
