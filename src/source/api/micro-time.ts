/** MicroTime of Leases and Events: exactly six decimals, or the API server refuses it. */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
