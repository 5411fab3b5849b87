// Plain f64 versions of the kernels' formulas, written as the definitions read. Slow, and without a single
// idea in common with the kernels they judge.

type Values = Float64Array;

/** `a (rows, inner) · b (inner, columns)`, either stored transposed. */
export function matmulReference(
  [a, b]: Values[],
  [rows, columns, inner]: number[],
  [ta, tb]: boolean[],
): Values {
  const y = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      for (let k = 0; k < inner; k++) {
        y[r * columns + c] += a[ta ? k * rows + r : r * inner + k] *
          b[tb ? c * inner + k : k * columns + c];
      }
    }
  }
  return y;
}

/** Applies `f` to each row of `cols` values. */
export function byRow(x: Values, cols: number, f: (row: Values, r: number) => ArrayLike<number>) {
  const rows = Array.from({ length: x.length / cols }, (_, r) => {
    return f(x.subarray(r * cols, (r + 1) * cols), r);
  });
  return rows.flatMap((row) => Array.from(row));
}

const meanOf = (x: Values) => x.reduce((sum, v) => sum + v, 0) / x.length;

/** `x · weight / √(mean x² + eps)` per row. */
export function rmsNormReference([x, weight]: Values[], eps: number): number[] {
  return byRow(x, weight.length, (row) => {
    const rms = Math.sqrt(meanOf(row.map((v) => v * v)) + eps);
    return row.map((v, c) => v * weight[c] / rms);
  });
}

/** `(x - mean) / √(variance + eps) · weight + bias` per row. */
export function layerNormReference([x, weight, bias]: Values[], eps: number): number[] {
  return byRow(x, weight.length, (row) => {
    const m = meanOf(row);
    const deviation = Math.sqrt(meanOf(row.map((v) => (v - m) ** 2)) + eps);
    return row.map((v, c) => (v - m) / deviation * weight[c] + bias[c]);
  });
}

/** `exp(x) / Σ exp(x)` per row. */
export function softmaxReference(x: Values, cols: number): number[] {
  return byRow(x, cols, (row) => {
    const powers = row.map((v) => Math.exp(v));
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((p) => p / total);
  });
}

/** `log Σ exp(x) - x[label]` per row. */
export function crossEntropyReference(x: Values, labels: ArrayLike<number>): number[] {
  return byRow(x, x.length / labels.length, (row, r) => {
    return [Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0)) - row[labels[r]]];
  });
}

/** Halves of each head rotated by `position · θ^(-2k/D)`. */
export function ropeReference(
  x: Values,
  positions: readonly number[],
  [heads, size]: number[],
  theta: number,
): Values {
  const y = new Float64Array(x.length);
  const half = size / 2;
  for (let i = 0; i < positions.length * heads; i++) {
    for (let k = 0; k < half; k++) {
      const angle = positions[Math.floor(i / heads)] * theta ** (-2 * k / size);
      const [a, b] = [x[i * size + k], x[i * size + half + k]];
      y[i * size + k] = a * Math.cos(angle) - b * Math.sin(angle);
      y[i * size + half + k] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return y;
}

/** `x · σ(x)`. */
export const siluOf = (x: number) => x / (1 + Math.exp(-x));

/** `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`. */
export const geluOf = (x: number) =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** What a packed token is to the mask: its sample, its split and the split's mode. */
export interface TokenFacts {
  sample: ArrayLike<number>;
  split: ArrayLike<number>;
  /** 0 causal, 1 full, 2 noise. */
  mode: ArrayLike<number>;
}

/** Attention with a table of scores, masked pair by pair; q (N, H, D), k and v (N, K, D). */
export function attentionReference(
  [q, k, v]: Values[],
  { sample, split, mode }: TokenFacts,
  [heads, keyHeads, size]: number[],
): Values {
  const tokens = sample.length;
  const y = new Float64Array(q.length);
  const sees = (i: number, j: number) => {
    const own = split[i] === split[j];
    if (sample[i] !== sample[j] || mode[j] === 2 && !own) return false;
    return j <= i || own && mode[j] !== 0;
  };
  for (let i = 0; i < tokens; i++) {
    for (let h = 0; h < heads; h++) {
      const at = (i * heads + h) * size;
      const weights = new Float64Array(tokens);
      for (let j = 0; j < tokens; j++) {
        if (!sees(i, j)) continue;
        const from = (j * keyHeads + Math.floor(h * keyHeads / heads)) * size;
        let score = 0;
        for (let d = 0; d < size; d++) score += q[at + d] * k[from + d];
        weights[j] = Math.exp(score / Math.sqrt(size));
      }
      const total = weights.reduce((a, b) => a + b, 0);
      for (let j = 0; j < tokens; j++) {
        const from = (j * keyHeads + Math.floor(h * keyHeads / heads)) * size;
        for (let d = 0; d < size; d++) y[at + d] += weights[j] / total * v[from + d];
      }
    }
  }
  return y;
}

/** Sizes of a convolution reference. */
export interface ConvShape {
  images: number;
  h: number;
  w: number;
  C: number;
  O: number;
  kernel: number;
  stride: number;
  /** Zeros before and after, rows and columns alike. */
  before: number;
  after: number;
}

/** Cross-correlation of channels-last images with a (O, C, k, k) weight. */
export function convReference([x, weight, bias]: Values[], s: ConvShape): Values {
  const out = (n: number) => Math.floor((n + s.before + s.after - s.kernel) / s.stride) + 1;
  const [rows, cols] = [out(s.h), out(s.w)];
  const y = new Float64Array(s.images * rows * cols * s.O);
  let at = 0;
  for (let b = 0; b < s.images; b++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < cols; j++) {
        for (let o = 0; o < s.O; o++, at++) {
          y[at] = bias[o];
          for (let u = 0; u < s.kernel; u++) {
            for (let v = 0; v < s.kernel; v++) {
              const r = s.stride * i + u - s.before;
              const c = s.stride * j + v - s.before;
              if (r < 0 || r >= s.h || c < 0 || c >= s.w) continue;
              for (let ch = 0; ch < s.C; ch++) {
                y[at] += x[((b * s.h + r) * s.w + c) * s.C + ch] *
                  weight[((o * s.C + ch) * s.kernel + u) * s.kernel + v];
              }
            }
          }
        }
      }
    }
  }
  return y;
}

/** Group normalization of channels-last images, then swish if asked. */
export function groupNormReference(
  [x, weight, bias]: Values[],
  [images, pixels, groups]: number[],
  eps: number,
  swish: boolean,
): Values {
  const C = weight.length;
  const per = C / groups;
  const y = new Float64Array(x.length);
  for (let b = 0; b < images; b++) {
    for (let g = 0; g < groups; g++) {
      const places: number[] = [];
      for (let p = 0; p < pixels; p++) {
        for (let c = 0; c < per; c++) places.push((b * pixels + p) * C + g * per + c);
      }
      const m = places.reduce((sum, i) => sum + x[i], 0) / places.length;
      const variance = places.reduce((sum, i) => sum + (x[i] - m) ** 2, 0) / places.length;
      for (const i of places) {
        const u = (x[i] - m) / Math.sqrt(variance + eps) * weight[i % C] + bias[i % C];
        y[i] = swish ? siluOf(u) : u;
      }
    }
  }
  return y;
}
