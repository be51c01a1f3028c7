import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Dial } from './byte-stream.ts';

/** One read is at most this long. */
const READ_BUFFER = 64 * 1024;

/**
 * Dials by TCP. All connections read into one buffer: libuv fills it and calls back before it reads anything else, so
 * the bytes are good during the call, and nothing is allocated for a read.
 */
export function createTcpDial(): Dial {
  const buffer = Buffer.allocUnsafeSlow(READ_BUFFER);
  return (ip, port, events) => {
    const socket = connect({
      host: ip,
      port,
      noDelay: true,
      allowHalfOpen: true,
      autoSelectFamily: false,
      onread: {
        buffer,
        callback: (length) => {
          events.onData(buffer, length);
          return true;
        },
      },
    });
    socket.on('connect', () => events.onConnect());
    socket.on('end', () => events.onEnd());
    socket.on('drain', () => events.onDrain());
    socket.on('error', () => {});
    socket.on('close', () => events.onClose());
    return socket;
  };
}

/**
 * Dials by TLS. As ingress-nginx does without proxy-ssl-verify: the certificate is not looked at, and the name is told to the server
 * only where one is given.
 */
export function createTlsDial(): Dial {
  return (host, port, events) => {
    const name = /^[0-9.]+$|:/.test(host) ? {} : { servername: host };
    const socket = connectTls({ host, port, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'], ...name });
    socket.setNoDelay(true);
    socket.on('secureConnect', () => events.onConnect());
    socket.on('data', (bytes: Buffer) => events.onData(bytes, bytes.length));
    socket.on('end', () => events.onEnd());
    socket.on('drain', () => events.onDrain());
    socket.on('error', () => {});
    socket.on('close', () => events.onClose());
    return socket;
  };
}
