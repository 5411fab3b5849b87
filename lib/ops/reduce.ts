// Sums of whole tensors in a fixed order, so that the same input gives the same bits: many partial sums
// first, then sums of those.

import code from "../../kernels/sum.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";

/** What is added up: the values or their squares. */
export const TERMS = {
  value: ["fn term(v: vec4f) -> vec4f { return v; }"],
  square: ["fn term(v: vec4f) -> vec4f { return v * v; }"],
} as const;

const kernel = new Kernel("sum", { main: code, parts: TERMS.value, knobs: ["BLOCK"] });

/** Values a thread adds at least, when there are as many, and the most threads: a software adapter has few cores. */
const GPU_THREADS = { values: 64, most: 16384 };
const SOFTWARE_THREADS = { values: 256, most: 1024 };

/** How a sum is laid out: partial sums per piece of the tensor. */
interface Piece {
  start: number;
  count: number;
  threads: number;
}

function piecesOf(x: Tensor): Piece[] {
  const most = Math.floor(x.gpu.maxBindingBytes / 256) * 64;
  const split = x.gpu.adapter.software ? SOFTWARE_THREADS : GPU_THREADS;
  const pieces: Piece[] = [];
  for (let start = 0; start < x.size; start += most) {
    const count = Math.min(most, x.size - start);
    pieces.push({ start, count, threads: Math.min(split.most, Math.ceil(count / split.values)) });
  }
  return pieces;
}

/**
 * `factor · Σ term(x)` over one or more tensors. Not recorded.
 *
 * @returns (1)
 */
export function reduce(
  xs: readonly Tensor[],
  term: readonly string[] = TERMS.value,
  factor = 1,
): Tensor {
  const { gpu } = xs[0];
  const pieces = xs.map(piecesOf);
  const total = pieces.flat().reduce((n, { threads }) => n + threads, 0);
  const y = Tensor.empty(gpu, [Math.max(1, total)]);
  if (total === 0) gpu.clear(y.buffer);
  const last = total <= 1;
  let first = 0;
  xs.forEach((x, i) => {
    for (const { start, count, threads } of pieces[i]) {
      const whole = pieces[i].length === 1;
      const BLOCK = 64;
      kernel.run(gpu, {
        buffers: {
          x: whole ? x.buffer : {
            buffer: x.buffer,
            offset: 4 * start,
            sizeBytes: Math.ceil(count / 4) * 16,
          },
          y: y.buffer,
        },
        params: { n: count, threads, first, factor: last ? factor : 1 },
        knobs: { BLOCK },
        parts: term,
        grid: foldGrid(Math.ceil(threads / BLOCK)),
      });
      first += threads;
    }
  });
  if (last) return y;
  const result = reduce([y], TERMS.value, factor);
  y.dispose();
  return result;
}
