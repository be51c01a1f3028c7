// A child of the DNS benchmark: `bare` answers every packet with the same bytes, the least that a Node program can do;
// `upstream` answers every question with an address, TTL 300, for those that forward.

import { createSocket } from 'node:dgram';

const [what, port] = process.argv.slice(2);
const socket = createSocket({ type: 'udp4', lookup: (host, _options, callback) => callback(null, host, 4) });

if (what === 'bare') {
  const answer = Buffer.alloc(64);
  answer.writeUInt16BE(0x8580, 2);
  socket.on('message', (packet, from) => {
    // dnsperf looks for the id; nothing else is done for the question.
    answer[0] = packet[0] ?? 0;
    answer[1] = packet[1] ?? 0;
    socket.send(answer, from.port, from.address);
  });
} else {
  socket.on('message', (packet, from) => {
    let end = 12;
    while ((packet[end] ?? 0) !== 0) end += 1 + (packet[end] ?? 0);
    const question = packet.subarray(0, end + 5);
    const answer = Buffer.concat([
      question,
      Buffer.from('c00c00010001000001 2c0004c0000207'.replaceAll(' ', ''), 'hex'),
    ]);
    answer.writeUInt16BE(0x8180, 2);
    answer.writeUInt16BE(1, 6);
    answer.fill(0, 8, 12);
    socket.send(answer, from.port, from.address);
  });
}
socket.bind({ address: '127.0.0.1', port: Number(port) }, () => process.stdout.write('ready\n'));
