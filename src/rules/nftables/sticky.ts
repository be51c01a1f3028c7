// Numbers for session affinity. The kernel hashes the endpoint that it chose and the maps must hold the same number, so
// the kernel's hash is computed here too: jhash (Jenkins lookup3, as in Linux' include/linux/jhash.h), scaled to the modulus.

import { fnv1a32 } from '../../lib/hash.ts';
import { ipBytes, type Ip } from '../../lib/ip.ts';
import { ENDPOINT_SEED, HASH_MODULUS } from './layout.ts';

/** What `jhash ip daddr . th dport mod … seed …` gives for the endpoint, on a little-endian machine. */
export function endpointHash(ip: Ip, port: number): number {
  const address = ipBytes(ip);
  // Registers are 32 bits wide: the port stands in network order, two bytes of padding follow.
  const bytes = new Uint8Array(address.length + 4);
  bytes.set(address);
  bytes[address.length] = port >> 8;
  bytes[address.length + 1] = port & 0xff;
  return Number((BigInt(jhash(bytes, ENDPOINT_SEED)) * BigInt(HASH_MODULUS)) >> 32n);
}

/** The number of a ServicePort, the same on each of its addresses and in every run. Two that share one by chance still keep their endpoints apart. */
export function servicePortNumber(key: string): number {
  return fnv1a32(key) || 1;
}

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

function jhash(bytes: Uint8Array, seed: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let a = (0xdeadbeef + bytes.length + seed) | 0;
  let b = a;
  let c = a;
  let at = 0;
  for (; bytes.length - at > 12; at += 12) {
    a = (a + view.getUint32(at, true)) | 0;
    b = (b + view.getUint32(at + 4, true)) | 0;
    c = (c + view.getUint32(at + 8, true)) | 0;
    a = ((a - c) | 0) ^ rotate(c, 4);
    c = (c + b) | 0;
    b = ((b - a) | 0) ^ rotate(a, 6);
    a = (a + c) | 0;
    c = ((c - b) | 0) ^ rotate(b, 8);
    b = (b + a) | 0;
    a = ((a - c) | 0) ^ rotate(c, 16);
    c = (c + b) | 0;
    b = ((b - a) | 0) ^ rotate(a, 19);
    a = (a + c) | 0;
    c = ((c - b) | 0) ^ rotate(b, 4);
    b = (b + a) | 0;
  }
  const tail = new Uint8Array(12);
  tail.set(bytes.subarray(at));
  const rest = new DataView(tail.buffer);
  a = (a + rest.getUint32(0, true)) | 0;
  b = (b + rest.getUint32(4, true)) | 0;
  c = (c + rest.getUint32(8, true)) | 0;
  c = ((c ^ b) - rotate(b, 14)) | 0;
  a = ((a ^ c) - rotate(c, 11)) | 0;
  b = ((b ^ a) - rotate(a, 25)) | 0;
  c = ((c ^ b) - rotate(b, 16)) | 0;
  a = ((a ^ c) - rotate(c, 4)) | 0;
  b = ((b ^ a) - rotate(a, 14)) | 0;
  c = ((c ^ b) - rotate(b, 24)) | 0;
  return c >>> 0;
}
