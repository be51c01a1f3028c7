import { expect, test } from 'vitest';
import {
  addressesOf,
  countTable,
  halfClosedIn,
  parseAddresses,
  parseBrief,
  parseConnections,
  parseCounts,
  parseListing,
  parseServers,
  parseSets,
} from './parse.ts';

// As Debian's tools and the kernel 6.1 write it.
const PROC = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
SCTP  01020304:0063 rr  
  -> 0A000001:1F90      Masq    1      0          0         
TCP  01020304:0050 mh  persistent 2700000 FFFFFFFF
  -> 0A000001:1F90      Masq    0      2          1         
TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 rr persistent 15000 80000000
  -> [fd00:0000:0000:0000:0000:0000:0000:0002]:1F90      Masq    0      0          0         
FWM  00000001 rr 
  -> 0A000009:0050      Masq    1      0          0         
UDP  01020304:0035 rr  
`;

test('connections are read of the virtual servers that are asked for', () => {
  expect(parseConnections(PROC, new Set(['TCP 1.2.3.4:80', 'TCP [fd00::1]:80']))).toEqual(
    new Map([
      ['TCP 1.2.3.4:80', new Map([['10.0.0.1:8080', { weight: 0, active: 2, inactive: 1 }]])],
      ['TCP [fd00::1]:80', new Map([['[fd00::2]:8080', { weight: 0, active: 0, inactive: 0 }]])],
    ]),
  );
  expect([...parseConnections(PROC).keys()]).toEqual([
    'SCTP 1.2.3.4:99',
    'TCP 1.2.3.4:80',
    'TCP [fd00::1]:80',
    'UDP 1.2.3.4:53',
  ]);
});

test('virtual and real servers are counted without a look at them, but for those of firewall marks', () => {
  expect(countTable(PROC)).toEqual({ lines: 12, servers: 7 });
  expect(countTable(PROC.split('\n').slice(0, 3).join('\n').concat('\n'))).toEqual({ lines: 3, servers: 0 });
});

test('connections are read of virtual servers that are listed one after the other', () => {
  const text = `Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr
  -> 1.2.3.4:80                   Masq    1      0          3         
  -> 1.2.3.5:80                   Masq    0      2          0         
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  [fd00::1]:80 rr persistent 100
  -> [fd00::1:2:3:4]:8080         Masq    1      0          0         
`;
  expect(parseListing(text)).toEqual(
    new Map([
      [
        'TCP 10.0.0.1:80',
        new Map([
          ['1.2.3.4:80', { weight: 1, active: 0, inactive: 3 }],
          ['1.2.3.5:80', { weight: 0, active: 2, inactive: 0 }],
        ]),
      ],
      ['TCP [fd00::1]:80', new Map([['[fd00::1:2:3:4]:8080', { weight: 1, active: 0, inactive: 0 }]])],
    ]),
  );
});

test('the line of the dummy link is told from those of others, and its addresses are read', () => {
  const others = 'lo               UNKNOWN        127.0.0.1/8 ::1/128 \nkube-ipvs01      DOWN           10.0.0.1/32 \n';
  const own = 'kube-ipvs0       DOWN           172.30.0.1/32 fd00:10:96::1/128 ';
  expect(parseBrief(`${others}${own}\n`)).toEqual({ own, others });
  expect(parseBrief(others)).toEqual({ own: undefined, others });
  expect([...addressesOf(own)]).toEqual(['172.30.0.1', 'fd00:10:96::1']);
  expect([...addressesOf('kube-ipvs0       DOWN           ')]).toEqual([]);
});

test('what ipvsadm saves is read, but for firewall marks', () => {
  const text = `-A -t 1.2.3.4:80 -s mh -p 10800 -b mh-port
-a -t 1.2.3.4:80 -r 10.0.0.1:8080 -m -w 1
-A -f 1 -s rr
-a -f 1 -r 10.0.0.9:80 -m -w 1
-A --sctp-service 1.2.3.4:99 -s rr
-A -t [fd00::1]:80 -s rr -p 60
-a -t [fd00::1]:80 -r [fd00::2]:8080 -m -w 0
`;
  expect(parseServers(text)).toEqual(
    new Map([
      ['TCP 1.2.3.4:80', { options: '-s mh -p 10800 -b mh-port', reals: new Map([['10.0.0.1:8080', '-m -w 1']]) }],
      ['SCTP 1.2.3.4:99', { options: '-s rr', reals: new Map() }],
      ['TCP [fd00::1]:80', { options: '-s rr -p 60', reals: new Map([['[fd00::2]:8080', '-m -w 0']]) }],
    ]),
  );
});

test('sets of others are passed over', () => {
  const text = `create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x360e5235
add KUBE-CLUSTER-IP 172.30.0.1,sctp:80
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30001
create mine hash:ip family inet hashsize 1024 maxelem 65536
add mine 1.2.3.4
`;
  expect(parseSets(text)).toEqual(
    new Map([
      [
        'KUBE-CLUSTER-IP',
        {
          type: 'hash:ip,port',
          family: 'inet',
          capacity: 65_536,
          entries: new Set(['KUBE-CLUSTER-IP 172.30.0.1,sctp:80']),
        },
      ],
      [
        'KUBE-NODE-PORT-TCP',
        { type: 'bitmap:port', family: undefined, capacity: undefined, entries: new Set(['KUBE-NODE-PORT-TCP 30001']) },
      ],
    ]),
  );
  expect(
    parseCounts('Name: KUBE-IPVS-IPS\nType: hash:ip\nNumber of entries: 7\n\nName: mine\nNumber of entries: 1\n'),
  ).toEqual(new Map([['KUBE-IPVS-IPS', 7]]));
});

test('addresses of kube-ipvs0 are ours, those of other links the node’s, dummies among them; loopback and link-local ones are nobody’s', () => {
  const link = (ifname: string, locals: readonly string[]): unknown => ({
    ifname,
    addr_info: locals.map((local) => ({ local, scope: 'global' })),
  });
  const text = JSON.stringify([
    link('lo', ['127.0.0.1', '::1']),
    link('eth0', ['192.168.0.2', 'fe80::1', 'fd00::2', '169.254.1.1']),
    link('dummy0', ['192.0.2.7']),
    link('kube-ipvs0', ['172.30.0.1']),
  ]);
  expect(parseAddresses(text)).toEqual({
    hasLink: true,
    ours: new Set(['172.30.0.1']),
    local: ['192.0.2.7', '192.168.0.2', 'fd00::2'],
  });
  expect(parseAddresses('')).toEqual({ hasLink: false, ours: new Set(), local: [] });
});

test('connections that one side has ended are told by their states', () => {
  const text = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A010101 9198 0A010101 0050 0A010102 1F90 ESTABLISHED     898
TCP 0A010101 9199 0A010101 0050 0A010102 1F90 CLOSE_WAIT       58
TCP fd00:0000:0000:0000:0000:0000:0000:0001 B3AA fd00:0000:0000:0000:0000:0000:0000:0001 0050 fd00:0000:0000:0000:0000:0000:0000:0002 1F90 FIN_WAIT        118
TCP 0A010101 91A2 0A010101 0051 0A010102 1F90 TIME_WAIT       118
UDP 0A010101 91A2 0A010101 0035 0A010102 1F90 UDP             298
`;
  expect([...halfClosedIn(text)]).toEqual(['TCP 10.1.1.1:80', 'TCP [fd00::1]:80']);
});
