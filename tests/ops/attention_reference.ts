// Attention in plain f64, with the mask rule written out pair by pair, and its analytic gradient. Nothing
// here knows of ranges, tiles or tables: it is what the kernels are judged by.

import type { TokenMask } from "../../lib/ops/attention_mask.ts";
import { uniform } from "../helpers.ts";

/** Sizes of one case. */
export interface Sizes {
  /** Query heads, key heads, head size. */
  H: number;
  K: number;
  D: number;
  scale?: number;
  /** Tokens attended to, if not the queries, and the index of query 0 among them. */
  keys?: TokenMask;
  offset?: number;
}

/** The rule of reference-model §2.8 with branches and hidden splits, for query i and key j. */
export function allowed(Q: TokenMask, K: TokenMask, offset: number, i: number, j: number): boolean {
  const sameSplit = Q.split[i] === K.split[j];
  if (Q.sample[i] !== K.sample[j]) return false;
  if (j > offset + i && !(sameSplit && K.mode[j] > 0)) return false;
  if (K.mode[j] === 2 && !sameSplit) return false;
  if (K.branch && K.branch[j] !== 0 && K.branch[j] !== (Q.branch?.[i] ?? 0)) return false;
  return !(K.hidden && K.hidden[j] !== 0 && Q.mode[i] === 2 && !sameSplit);
}

/** Output and, if `dy` is given, gradients. */
export interface Exact {
  y: Float64Array;
  dq: Float64Array;
  dk: Float64Array;
  dv: Float64Array;
}

/** Dense attention: y, and dq, dk, dv for the upstream gradient `dy`. */
export function denseAttention(
  tokens: TokenMask,
  sizes: Sizes,
  [q, k, v]: ArrayLike<number>[],
  dy?: ArrayLike<number>,
): Exact {
  const { H, K, D } = sizes;
  const others = sizes.keys ?? tokens;
  const [nq, nk] = [tokens.sample.length, others.sample.length];
  const scale = sizes.scale ?? 1 / Math.sqrt(D);
  const y = new Float64Array(nq * H * D);
  const dq = new Float64Array(nq * H * D);
  const dk = new Float64Array(nk * K * D);
  const dv = new Float64Array(nk * K * D);
  const dot = (a: ArrayLike<number>, at: number, b: ArrayLike<number>, bt: number) => {
    let sum = 0;
    for (let d = 0; d < D; d++) sum += a[at + d] * b[bt + d];
    return sum;
  };
  for (let i = 0; i < nq; i++) {
    const seen: number[] = [];
    for (let j = 0; j < nk; j++) if (allowed(tokens, others, sizes.offset ?? 0, i, j)) seen.push(j);
    for (let h = 0; h < H; h++) {
      const at = (i * H + h) * D;
      const rows = seen.map((j) => (j * K + Math.floor(h * K / H)) * D);
      const scores = rows.map((row) => scale * dot(q, at, k, row));
      const top = Math.max(...scores);
      const weights = scores.map((s) => Math.exp(s - top));
      const total = weights.reduce((a, b) => a + b, 0);
      const p = weights.map((w) => w / total);
      rows.forEach((row, n) => {
        for (let d = 0; d < D; d++) y[at + d] += p[n] * v[row + d];
      });
      if (!dy) continue;
      const dp = rows.map((row) => dot(dy, at, v, row));
      const delta = dp.reduce((sum, x, n) => sum + p[n] * x, 0);
      rows.forEach((row, n) => {
        const ds = scale * p[n] * (dp[n] - delta);
        for (let d = 0; d < D; d++) {
          dq[at + d] += ds * k[row + d];
          dk[row + d] += ds * q[at + d];
          dv[row + d] += p[n] * dy[at + d];
        }
      });
    }
  }
  return { y, dq, dk, dv };
}

/** What a mixed sequence contains. */
export interface Mixture {
  /** Draw branches and hidden splits too. */
  branches?: boolean;
  /** Lengths of the samples; they add up to the number of tokens. */
  samples: number[];
  seed?: number;
}

/** A seeded sequence of samples made of splits of every mode, 1 to 20 tokens long. */
export function mixedTokens({ samples, branches = false, seed = 5 }: Mixture): TokenMask {
  const draw = uniform(seed);
  const pick = (n: number) => Math.floor(draw() * n);
  const n = samples.reduce((a, b) => a + b, 0);
  const array = () => new Int32Array(n);
  const tokens = { sample: array(), split: array(), mode: array() };
  const extra = branches ? { branch: array(), hidden: array() } : {};
  let [at, split] = [0, 100];
  samples.forEach((length, s) => {
    const end = at + length;
    while (at < end) {
      const stop = Math.min(end, at + 1 + pick(20));
      const [mode, branch, hidden] = [pick(3), at + length > end ? pick(3) : 0, pick(2)];
      tokens.sample.fill(s + 3, at, stop);
      tokens.split.fill(split++, at, stop);
      tokens.mode.fill(mode, at, stop);
      extra.branch?.fill(branch, at, stop);
      extra.hidden?.fill(hidden, at, stop);
      at = stop;
    }
  });
  return { ...tokens, ...extra };
}

/** n tokens of one sample and one split. */
export function oneSplit(n: number, mode: number): TokenMask {
  return {
    sample: new Int32Array(n),
    split: new Int32Array(n),
    mode: new Int32Array(n).fill(mode),
  };
}

/** Tokens `from` to `to` of a sequence. */
export function sliceTokens(tokens: TokenMask, from: number, to: number): TokenMask {
  const { branch, hidden } = tokens;
  return {
    sample: tokens.sample.slice(from, to),
    split: tokens.split.slice(from, to),
    mode: tokens.mode.slice(from, to),
    ...(branch ? { branch: branch.slice(from, to) } : {}),
    ...(hidden ? { hidden: hidden.slice(from, to) } : {}),
  };
}
