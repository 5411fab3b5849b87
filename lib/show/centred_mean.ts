// Smoothing of curves that lags behind no slope.

/** How many logged steps the mean takes together: odd, a thirtieth of them, 5 to 101. */
export function windowOf(count: number): number {
  return 2 * Math.min(50, Math.max(2, Math.round(count / 60))) + 1;
}

/**
 * The mean of the `window` values around each; near the ends of as many as there are on both sides, so that it lags
 * behind no slope. Values that are not finite do not count.
 *
 * @param window odd
 */
export function centredMean(values: readonly number[], window: number): number[] {
  return values.map((_, i) => {
    const half = Math.min((window - 1) / 2, i, values.length - 1 - i);
    return mean(values.slice(i - half, i + half + 1));
  });
}

/** The mean of the finite values; NaN if there are none. */
export function mean(values: readonly number[]): number {
  const finite = values.filter(Number.isFinite);
  return finite.length === 0 ? NaN : finite.reduce((sum, v) => sum + v, 0) / finite.length;
}
