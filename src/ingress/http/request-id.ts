import { randomFillSync } from 'node:crypto';

const POOL = Buffer.allocUnsafeSlow(4096);
let at = POOL.length;

/** 128 random bits as 32 hexadecimal digits. */
export function newRequestId(): string {
  if (at >= POOL.length) {
    randomFillSync(POOL);
    at = 0;
  }
  at += 16;
  return POOL.toString('hex', at - 16, at);
}

/** The client's id when it is one that logs and headers can carry, else a new one; or none, where none are made. */
export function requestIdFrom(given: string, makes: boolean): string {
  if (given !== '' && given.length <= 128 && /^[A-Za-z0-9._~:+/=@-]+$/.test(given)) return given;
  return makes ? newRequestId() : '';
}

/** As a line; none without an id. */
export function requestIdLine(id: string): string {
  return id === '' ? '' : `X-Request-ID: ${id}\r\n`;
}
