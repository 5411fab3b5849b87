// Sizes that device memory is taken in, so that what is given back fits the next who asks.

/** Bytes of the smallest buffer. */
export const SMALLEST = 256;

/** Size classes per power of two. */
export const CLASSES = 4;

/** Rounds up to a size class: four classes per power of two, so at most a fifth is unused. */
export function sizeClass(sizeBytes: number): number {
  if (sizeBytes <= SMALLEST) return SMALLEST;
  const step = 2 ** Math.max(6, Math.floor(Math.log2(sizeBytes - 1)) - 2);
  return Math.ceil(sizeBytes / step) * step;
}
