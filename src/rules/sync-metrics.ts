export const FAMILY_LABELS: Readonly<Record<4 | 6, string>> = { 4: 'IPv4', 6: 'IPv6' };
/** As kube-proxy's: 0.001 · 2^k, fifteen of them. */
export const DURATION_BUCKETS = Array.from({ length: 15 }, (_, k) => 0.001 * 2 ** k);
