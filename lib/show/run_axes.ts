// Vertical axes of curves: the range around their values, and ticks of a logarithmic one.

/** The range of an axis around values, with a margin; of their logarithms to base 10 if `log`. */
export function rangeOf(values: readonly number[], log: boolean): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    const v = log ? Math.log10(value) : value;
    [low, high] = [Math.min(low, v), Math.max(high, v)];
  }
  if (low > high) return [0, 1];
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin * 2.2]; // the names of stages stand at the top
}

/** Ticks at 1, 2 and 5 times powers of ten; over more than three decades at the powers alone. */
export function logTicks([low, high]: [number, number]): { at: number[]; text: string[] } {
  const factors = high - low > 3 ? [1] : [1, 2, 5];
  const at: number[] = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const factor of factors) {
      const value = Number(`${factor}e${power}`);
      if (Math.log10(value) >= low && Math.log10(value) <= high) at.push(value);
    }
  }
  return { at, text: at.map(String) };
}
