import { setFlagsFromString } from 'node:v8';

/**
 * Keeps V8 from growing its heap far beyond what lives in it while a large folder or list is read: what is read becomes garbage at once, and the space
 * is never given back. Measured with 1,000 Services × 10 endpoints in a folder: 294 MB resident without, 141 to 164 MB with, in the same time. For roles whose work
 * is control more than throughput.
 */
export function keepHeapSmall(): void {
  // The young generation stays at its first size; the old one may grow by a fifth between two collections.
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--heap-growing-percent=20');
}
