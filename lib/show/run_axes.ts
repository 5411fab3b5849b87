// Vertical axes of curves: what they say, the range around their values, and ticks of a logarithmic one.

/** Metrics that a training logs, in words with their units. */
const WORDS = new Map([
  ["text", "text loss, cross-entropy (nats)"],
  ["flow", "flow loss, mean squared error"],
  ["norm", "gradient norm"],
  ["learning-rate", "learning rate"],
  ["tokens", "tokens per step"],
  ["waiting", "share of time waiting for data"],
  ["seconds", "time since the session began (s)"],
  ["held-out/answers", "held out: share of answers right"],
  ["held-out/psnr", "held out: peak signal to noise (dB)"],
]);

/** What an axis says of a metric: words and unit of a known one, the name of another. */
export function axisWords(metric: string): string {
  const known = WORDS.get(metric);
  if (known !== undefined) return known;
  const [, group, name] = /^(held-out|drawn)\/(.+)$/.exec(metric) ?? [];
  if (group === "drawn") return `samples of ${name} in the stage`;
  return group === "held-out" ? `held out: ${WORDS.get(name) ?? name}` : metric;
}

/** The range of an axis around values, with a margin; of their logarithms to base 10 if `log`. */
export function rangeOf(values: readonly number[], log: boolean): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    const v = log ? Math.log10(value) : value;
    [low, high] = [Math.min(low, v), Math.max(high, v)];
  }
  if (low > high) return [0, 1];
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
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
