/** How many times slower than usual this machine is: `FAIRLEAD_TEST_SLOWNESS`, set where the processor is emulated. Bounds of time are multiplied by it. */
export const SLOWNESS = Math.max(1, Number(process.env['FAIRLEAD_TEST_SLOWNESS'] ?? 1));
