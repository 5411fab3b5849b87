// The transformer block that the engines are compared on, on the host in f64: its loss, and the slopes of the loss
// along one random direction of every input, by central differences. No gradient formula is needed, so none can be
// wrong here in the same way as in an engine.

import { normals, uniform } from "../helpers.ts";
import type { HostArray } from "./peers_cases.ts";

/** Sizes of the block. */
export interface BlockShape {
  /** Samples, and tokens of each. */
  samples: number;
  length: number;
  width: number;
  heads: number;
  /** Width of the feed-forward layer. */
  hidden: number;
  /** True if a token sees no later one, false if it sees its whole sample. */
  causal: boolean;
}

/** 1024 tokens in four samples, width 128, four heads of 32. */
export const DEMO_BLOCK: BlockShape = {
  samples: 4,
  length: 256,
  width: 128,
  heads: 4,
  hidden: 512,
  causal: true,
};

/** What the block takes, in order; weights are stored (out, in). The loss weights come last, without a gradient. */
export const BLOCK_INPUTS = [
  "x",
  "norm1",
  "query",
  "key",
  "value",
  "project",
  "norm2",
  "up",
  "down",
] as const;

/** Added to the mean square. */
export const BLOCK_EPS = 1e-6;

/** Inputs and answers of a block. */
export interface BlockAnswers {
  /** {@link BLOCK_INPUTS}, then the loss weights. */
  inputs: HostArray[];
  /** The loss, and the root of the sum of its squared terms, for tolerances. */
  loss: { value: number; scale: number };
  /** Per input a direction of ±1, and the slope of the loss along it. */
  directions: Float32Array[];
  slopes: number[];
  /** Forward and backward, products only: backward twice forward; attention over visible pairs. */
  flop: number;
}

/** Makes inputs for a block and computes what the engines' results are compared with. */
export function blockSlopes(shape: BlockShape): BlockAnswers {
  const { samples, length, width, hidden, causal } = shape;
  const tokens = samples * length;
  const shapes = {
    x: [tokens, width],
    norm1: [width],
    query: [width, width],
    key: [width, width],
    value: [width, width],
    project: [width, width],
    norm2: [width],
    up: [hidden, width],
    down: [width, hidden],
  };
  const inputs: HostArray[] = BLOCK_INPUTS.map((name, i) => {
    const sides = shapes[name];
    const size = sides.reduce((n, d) => n * d, 1);
    const fanIn = sides.length === 2 && name !== "x" ? sides[1] : 1;
    return { shape: sides, data: normals(size, 20 + i, fanIn ** -0.5) };
  });
  inputs.push({ shape: [tokens, width], data: normals(tokens * width, 40) });
  const exact = inputs.map(({ data }) => Float64Array.from(data));
  const lossWeights = exact[BLOCK_INPUTS.length];
  const y = blockOutput(shape, exact);
  const value = weighted(y, lossWeights);
  const scale = Math.sqrt(y.reduce((sum, v, i) => sum + (v * lossWeights[i]) ** 2, 0));

  const random = uniform(41);
  const step = 1e-5;
  const directions: Float32Array[] = [];
  const slopes = BLOCK_INPUTS.map((_, i) => {
    const direction = Float32Array.from(exact[i], () => random() < 0.5 ? -1 : 1);
    directions.push(direction);
    const along = (h: number) => {
      const moved = exact.with(i, exact[i].map((v, j) => v + h * direction[j]));
      return weighted(blockOutput(shape, moved), lossWeights);
    };
    return (along(step) - along(-step)) / (2 * step);
  });
  const pairs = samples * (causal ? length * (length + 1) / 2 : length * length);
  const flop = 3 * (2 * tokens * width * (4 * width + 2 * hidden) + 4 * width * pairs);
  return { inputs, loss: { value, scale }, directions, slopes, flop };
}

/** `h = x + project(attention(norm1(x)))`, then `h + down(gelu(up(norm2(h))))`. */
function blockOutput(shape: BlockShape, inputs: Float64Array[]): Float64Array {
  const { width, hidden } = shape;
  const [x, norm1, query, key, value, project, norm2, up, down] = inputs;
  const first = normalize(x, norm1);
  const [q, k, v] = [query, key, value].map((w) => linear(first, w, width));
  const h = linear(attend(shape, q, k, v), project, width).map((a, i) => a + x[i]);
  const inner = linear(normalize(h, norm2), up, width).map((u) =>
    0.5 * u * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (u + 0.044715 * u ** 3)))
  );
  return linear(inner, down, hidden).map((a, i) => a + h[i]);
}

/** `y = x Wᵀ`, W stored (out, in). */
function linear(x: Float64Array, weight: Float64Array, inner: number): Float64Array {
  const outputs = weight.length / inner;
  const rows = x.length / inner;
  const y = new Float64Array(rows * outputs);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      let sum = 0;
      for (let i = 0; i < inner; i++) sum += x[r * inner + i] * weight[o * inner + i];
      y[r * outputs + o] = sum;
    }
  }
  return y;
}

function normalize(x: Float64Array, weight: Float64Array): Float64Array {
  const columns = weight.length;
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += columns) {
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += x[at + c] ** 2;
    const inverse = 1 / Math.sqrt(squares / columns + BLOCK_EPS);
    for (let c = 0; c < columns; c++) y[at + c] = x[at + c] * inverse * weight[c];
  }
  return y;
}

function attend(
  { samples, length, width, heads, causal }: BlockShape,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
): Float64Array {
  const size = width / heads;
  const y = new Float64Array(q.length);
  const scores = new Float64Array(length);
  for (let sample = 0; sample < samples; sample++) {
    for (let head = 0; head < heads; head++) {
      const at = sample * length * width + head * size; // of the sample's first token
      for (let i = 0; i < length; i++) {
        const seen = causal ? i + 1 : length;
        let largest = -Infinity;
        for (let j = 0; j < seen; j++) {
          let score = 0;
          for (let d = 0; d < size; d++) score += q[at + i * width + d] * k[at + j * width + d];
          scores[j] = score / Math.sqrt(size);
          largest = Math.max(largest, scores[j]);
        }
        let total = 0;
        for (let j = 0; j < seen; j++) total += scores[j] = Math.exp(scores[j] - largest);
        for (let j = 0; j < seen; j++) {
          const share = scores[j] / total;
          for (let d = 0; d < size; d++) y[at + i * width + d] += share * v[at + j * width + d];
        }
      }
    }
  }
  return y;
}

function weighted(x: Float64Array, weights: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * weights[i];
  return sum;
}
