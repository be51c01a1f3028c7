import { connect, type LookupFunction } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { BackendTls } from '../backend-tls.ts';
import type { Dial } from './byte-stream.ts';

/** One read is at most this long. */
const READ_BUFFER = 64 * 1024;

/**
 * Dials by TCP. All connections read into one buffer: libuv fills it and calls back before it reads anything else, so
 * the bytes are good during the call, and nothing is allocated for a read.
 */
export function createTcpDial(lookup?: LookupFunction): Dial {
  const buffer = Buffer.allocUnsafeSlow(READ_BUFFER);
  return (ip, port, events) => {
    const socket = connect({
      host: ip,
      port,
      noDelay: true,
      allowHalfOpen: true,
      autoSelectFamily: false,
      ...(lookup ? { lookup } : {}),
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

/** Dials by TLS, with what `tls` gives at that moment. */
export function createTlsDial(tls: () => BackendTls, lookup?: LookupFunction): Dial {
  return (host, port, events) => {
    const made = tls();
    const options = made.kind === 'ready' ? made.options : {};
    const socket = connectTls({ host, port, ALPNProtocols: ['http/1.1'], ...options, ...(lookup ? { lookup } : {}) });
    // Nothing is sent where the backend cannot be met as it should be.
    if (made.kind === 'bad') socket.destroy();
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
