import { describe, expect, test } from 'vitest';
import { lowerName, nameText, parseName } from '../wire/name.ts';
import { typeCode, typeName } from '../wire/types.ts';
import { parseZoneFile } from './parse.ts';
import { additionalOf, fileZone, lookupInFile, type FileZone } from './zone.ts';

const TEXT = `$ORIGIN example.test.
$TTL 1h
@   IN SOA ns hostmaster ( 2024010101 ; serial
        7200 15m
        2w 300 )
    NS ns
    NS ns.other.test.
ns  300 A 192.0.2.1
    AAAA 2001:db8::1
www IN 60 A 192.0.2.2
WWW A 192.0.2.3
mail MX 10 www
txt TXT "a b" c\\;d "quote\\"d"
*.wild A 192.0.2.9
deep.ent A 192.0.2.4
al CNAME www
out CNAME www.elsewhere.test.
sub NS ns.sub
ns.sub A 192.0.2.5
old DNAME new
svc HTTPS 1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.2
raw TYPE65400 \\# 3 0a0B0c
_x._tcp SRV 0 5 80 www
$GENERATE 1-5/2 host$ 120 IN A 192.0.2.\${100}
$GENERATE 9-10 n\${1,4,x}-$$ TXT "no $"
$INCLUDE more.db inc
last A 192.0.2.10
`;

async function zoneOf(text: string): Promise<FileZone | string> {
  const origin = parseName('example.test.');
  if (!origin) throw new Error('no origin');
  const include = async (path: string) =>
    path === 'more.db' ? { path: '/more.db', text: 'x A 192.0.2.77\n' } : undefined;
  const parsed = await parseZoneFile({ text, path: '/db', origin, include });
  if (parsed.kind === 'mistake') return parsed.message;
  const built = fileZone(origin, parsed.records);
  return built.kind === 'zone' ? built.zone : built.what;
}

async function whole(): Promise<FileZone> {
  const zone = await zoneOf(TEXT);
  if (typeof zone === 'string') throw new Error(zone);
  return zone;
}

function lookup(zone: FileZone, name: string, type: string): string {
  const wire = parseName(name);
  const code = typeCode(type);
  if (!wire || code === undefined) throw new Error('no name or type');
  const found = lookupInFile(zone, lowerName(wire), wire, code);
  if (found.kind === 'delegated') return `delegated ${found.servers.map(({ owner }) => nameText(owner)).join()}`;
  if (!('answer' in found)) return found.kind;
  const records = found.answer.map(
    ({ owner, type: t, ttl, data }) =>
      `${owner ? nameText(owner) : ''} ${ttl} ${typeName(t)} ${Buffer.from(data, 'latin1').toString('hex')}`,
  );
  return `${found.kind} ${records.join(' | ')}`;
}

describe('a zone file', () => {
  test.each([
    ['www.example.test.', 'A', 'found www.example.test. 60 A c0000202 | www.example.test. 3600 A c0000203'],
    ['host3.example.test.', 'A', 'found host3.example.test. 120 A c0000267'],
    ['host4.example.test.', 'A', 'missing'],
    ['n000b-$.example.test.', 'TXT', 'found n000b-$.example.test. 3600 TXT 056e6f203130'],
    ['www.example.test.', 'AAAA', 'nodata'],
    ['ns.example.test.', 'AAAA', 'found ns.example.test. 3600 AAAA 20010db8000000000000000000000001'],
    ['nosuch.example.test.', 'A', 'missing'],
    ['ent.example.test.', 'A', 'nodata'],
    ['x.ent.example.test.', 'A', 'missing'],
    ['x.wild.example.test.', 'A', 'found x.wild.example.test. 3600 A c0000209'],
    ['x.y.wild.example.test.', 'A', 'found x.y.wild.example.test. 3600 A c0000209'],
    ['x.wild.example.test.', 'MX', 'nodata'],
    ['wild.example.test.', 'A', 'nodata'],
    ['x.sub.example.test.', 'A', 'delegated sub.example.test.'],
    ['sub.example.test.', 'DS', 'nodata'],
    ['x.inc.example.test.', 'A', 'found x.inc.example.test. 3600 A c000024d'],
    ['last.example.test.', 'A', 'found last.example.test. 3600 A c000020a'],
    ['raw.example.test.', 'TYPE65400', 'found raw.example.test. 3600 TYPE65400 0a0b0c'],
    [
      'svc.example.test.',
      'HTTPS',
      'found svc.example.test. 3600 HTTPS 000100000100060268320268330003000220fb00040004c0000202',
    ],
  ])('answers %s %s with %s', async (name, type, answer) => {
    expect(lookup(await whole(), name, type)).toBe(answer);
  });

  test('leads on by CNAME and DNAME, as the name was asked', async () => {
    const zone = await whole();
    expect(lookup(zone, 'AL.example.test.', 'A')).toMatch(/^alias AL\.example\.test\. 3600 CNAME /);
    const target = Buffer.from(parseName('a.b.new.example.test.') ?? '', 'latin1').toString('hex');
    expect(lookup(zone, 'a.b.old.example.test.', 'A')).toMatch(
      new RegExp(`\\| a\\.b\\.old\\.example\\.test\\. 3600 CNAME ${target}$`),
    );
    expect(lookup(zone, 'old.example.test.', 'A')).toBe('nodata');
  });

  test('gives the addresses of names that records point at', async () => {
    const zone = await whole();
    const [srv] = zone.records.filter(({ type }) => type === typeCode('SRV'));
    expect(srv && additionalOf(zone, [srv]).map(({ owner }) => nameText(owner))).toEqual([
      'www.example.test.',
      'WWW.example.test.',
    ]);
  });
});

test.each([
  ['@ SOA ns hm 1 2 3 4 5\nx A 192.0.2.300\n', '/db:2: this is no data of a record of type A'],
  ['@ SOA ns hm 1 2 3 4 5\nx.other.test. A 192.0.2.3\n', 'x.other.test. is not in the zone example.test.'],
  ['x A 192.0.2.3\n', 'there is no SOA record for example.test.'],
  ['@ SOA ns hm ( 1 2 3 4 5\n', '/db:1: a ( is not closed'],
  ['@ SOA ns hm 1 2 3 4 5 )\n', '/db:1: there is a ) without a ( before it'],
  ['@ TXT "open\n', '/db:1: a quote is not closed'],
  ['$INCLUDE nosuch\n', '/db:1: $INCLUDE: there is no file nosuch'],
  ['$NOSUCH 1\n', '/db:1: $NOSUCH is unknown; there are: $ORIGIN, $TTL, $INCLUDE, $GENERATE'],
  ['$GENERATE 3-2 a A 1.2.3.4\n', '/db:1: $GENERATE: START-STOP or START-STOP/STEP was expected, not "3-2"'],
  ['$GENERATE 1-2 a\n', '/db:1: $GENERATE: a name, a type and data were expected behind the range'],
  ['$GENERATE 0-9999999 a$ A 1.2.3.4\n', '/db:1: $GENERATE: it makes more than 65536 records'],
  ['$GENERATE 1-2 a${1,2,z} A 1.2.3.4\n', '/db:1: $GENERATE: "a${1,2,z}" has a number that is none'],
  ['$GENERATE 254-256 a$ A 192.0.2.$\n', '/db:1: $GENERATE, a256 A 192.0.2.256: this is no data of a record of type A'],
  ['@ NOSUCH 1\n', '/db:1: "NOSUCH" is no record type'],
  ['@ RRSIG A 8 2 1 1 1 1 x y\n', '/db:1: RRSIG: signed zones are not built yet; serve the zone unsigned'],
  [' A 192.0.2.1\n', '/db:1: the first record needs a name'],
])('%j is a mistake: %s', async (text, why) => {
  const told = await zoneOf(text);
  expect(typeof told === 'string' ? told.slice(0, why.length) : told).toBe(why);
});
