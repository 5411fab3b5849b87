// Queries, keys and values out of one stacked projection: taken apart, normed per head and rotated in one kernel, where
// plain ops take seven launches.

import backwardCode from "../../kernels/head_norm_rope_backward.wgsl" with { type: "text" };
import dweightCode from "../../kernels/head_norm_dweight.wgsl" with { type: "text" };
import forwardCode from "../../kernels/head_norm_rope.wgsl" with { type: "text" };
import columnReduce from "../../kernels/common/column_reduce.wgsl" with { type: "text" };
import pack1 from "../../kernels/common/pack1.wgsl" with { type: "text" };
import pack4 from "../../kernels/common/pack4.wgsl" with { type: "text" };
import rowReduce from "../../kernels/common/row_reduce.wgsl" with { type: "text" };
import { recordAll } from "../autograd.ts";
import type { Gpu } from "../gpu/device.ts";
import { type Binding, foldGrid, Kernel } from "../gpu/kernel.ts";
import {
  ROW_KNOBS,
  ROW_PARTS,
  rowBinding,
  type RowRange,
  rowRanges,
  rowThreads,
} from "../gpu/rows.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { columnSum } from "./column_sum.ts";
import { PART_ROWS } from "./column_threads.ts";
import type { RopeTables } from "./rope.ts";
import { stackRows, unstackRows, VIEW_STEP } from "./stack_rows.ts";

const forward = new Kernel("head_norm_rope", {
  main: forwardCode,
  parts: ROW_PARTS,
  knobs: ROW_KNOBS,
});
const backward = new Kernel("head_norm_rope_backward", {
  main: backwardCode,
  parts: ROW_PARTS,
  knobs: ROW_KNOBS,
});
const dweight = new Kernel("head_norm_dweight", {
  main: dweightCode,
  parts: [columnReduce],
  knobs: ["BLOCK", "TALL", "pack"],
});

/** Threads that share a column of the weights' gradient. */
const COLUMN_THREADS = 64;

/** Sizes for {@link headNormRope}. */
export interface HeadSizes {
  /** Query heads H. */
  heads: number;
  /** Key and value heads K. */
  keyHeads: number;
  /** Added to the mean square of a head. Default: 1e-6. */
  eps?: number;
}

/** Queries (N, H, D), keys and values (N, K, D). */
export interface Projected {
  q: Tensor;
  k: Tensor;
  v: Tensor;
}

/**
 * Heads of stacked rows `[q | k | v]`: `q` and `k` normed per head by {@link rmsNorm} and turned by {@link rope}, `v` as
 * it is. Gradients of outputs that nobody reads count as zero. The norm weights' gradients are summed in an order that
 * depends on the shapes only.
 *
 * @param x (N, (H + 2K)·D)
 * @param qNorm (D) weight of the queries' norm
 * @param kNorm (D) weight of the keys' norm
 * @param tables made by `ropeTables` for the N tokens and D
 * @throws {TypeError} If the shapes do not belong together
 */
export function headNormRope(
  x: Tensor,
  qNorm: Tensor,
  kNorm: Tensor,
  tables: RopeTables,
  { heads, keyHeads, eps = 1e-6 }: HeadSizes,
): Projected {
  const [tokens, half] = tables.cos.shape;
  const size = 2 * half;
  const slots = heads + 2 * keyHeads;
  const fits = x.shape.join() === `${tokens},${slots * size}` && heads > 0 && keyHeads > 0 &&
    [qNorm, kNorm].every(({ shape }) => shape.join() === `${size}`);
  if (!fits) {
    throw new TypeError(
      `Cannot take ${heads} and twice ${keyHeads} heads out of (${
        x.shape.join(", ")
      }) with norms of ` +
        `(${qNorm.shape.join(", ")}) and (${kNorm.shape.join(", ")}) and tables of ` +
        `(${tables.cos.shape.join(", ")})`,
    );
  }
  const { gpu } = x;
  const shape: HeadShape = { tokens, heads, keyHeads, size };
  const norms = stackRows([qNorm, kNorm]);
  const stats = Tensor.empty(gpu, [tokens, slots]);
  const { cos: cosine, sin: sine } = tables;
  const { q, k, v } = runForward(shape, { x, cosine, sine, stats }, norms, eps);
  recordAll([q, k, v], [x, qNorm, kNorm], (dys, needs) => {
    const dx = Tensor.empty(gpu, x.shape);
    const read = { x, cosine, sine, stats };
    const dnorms = runBackward(shape, read, norms, dys, dx, eps);
    return [dx, ...unstackRows(dnorms, [qNorm.shape, kNorm.shape], needs.slice(1))];
  }, [norms, stats]);
  return { q, k, v };
}

interface HeadShape {
  tokens: number;
  heads: number;
  keyHeads: number;
  size: number;
}

/** Pairs of a head's halves, counted in packs. */
function packing(size: number): { pairs: number; pack: string } {
  const wide = size % 8 === 0;
  return { pairs: size / (wide ? 8 : 2), pack: wide ? "vec4f" : "f32" };
}

/** Bindings of a range of tokens, of tensors with something for each token. */
function bindingsOf(
  tensors: Record<string, Tensor>,
  tokens: number,
  range: RowRange,
): Record<string, Binding> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [name, rowBinding(tensor, tokens, range)]),
  );
}

/** Runs a kernel over all heads of a range of tokens. */
function runHeads(
  kernel: typeof forward,
  gpu: Gpu,
  { heads, keyHeads, size }: HeadShape,
  range: RowRange,
  buffers: Record<string, Binding>,
  params: Record<string, number>,
): void {
  const { pairs, pack } = packing(size);
  const threads = rowThreads(gpu, 2 * pairs);
  const rows = range.count * (heads + 2 * keyHeads);
  kernel.run(gpu, {
    buffers,
    params: { ...params, rows, pairs, heads, key_heads: keyHeads, size },
    knobs: { ...threads, pack },
    parts: [rowReduce, pack === "f32" ? pack1 : pack4],
    grid: foldGrid(Math.ceil(rows * threads.LANES / threads.BLOCK)),
  });
}

type Read = Record<"x" | "cosine" | "sine" | "stats", Tensor>;

/** Fills `stats`; the heads are views of one tensor, unless that is too large to bind. */
function runForward(shape: HeadShape, read: Read, norms: Tensor, eps: number): Projected {
  const { tokens, heads, keyHeads, size } = shape;
  const { gpu } = norms;
  const width = packing(size).pack === "f32" ? 1 : 4; // values of a pack
  const shapes = (count: number) =>
    [heads, keyHeads, keyHeads].map((h) => [count, h, size] as const);
  const ranges = rowRanges(gpu, tokens, Object.values(read));
  const parts = ranges.map((range) => {
    const starts: number[] = [];
    let end = 0;
    for (const part of shapes(range.count)) {
      starts.push(end);
      end += VIEW_STEP * Math.ceil(sizeOf(part) / VIEW_STEP);
    }
    const y = Tensor.empty(gpu, [end]);
    const [, k_start, v_start] = starts.map((start) => start / width);
    const buffers = { ...bindingsOf(read, tokens, range), norms: norms.buffer, y: y.buffer };
    runHeads(forward, gpu, shape, range, buffers, { eps, k_start, v_start });
    const views = shapes(range.count).map((part, i) => y.view(starts[i], part));
    y.dispose();
    return views;
  });
  if (parts.length === 1) {
    const [[q, k, v]] = parts;
    return { q, k, v };
  }
  const [q, k, v] = shapes(tokens).map((whole, i) => {
    const all = Tensor.empty(gpu, whole);
    for (const [n, views] of parts.entries()) {
      const at = 4 * ranges[n].start * all.size / tokens;
      gpu.copy(views[i].buffer, 0, all.buffer, at, 4 * views[i].size);
      views[i].dispose();
    }
    return all;
  });
  return { q, k, v };
}

/**
 * Fills `dx` and returns the gradients of both norms' weights, (2·D). The gradients that arrived are stacked for each
 * range of tokens: kernels on software adapters pay for every buffer they might read.
 */
function runBackward(
  shape: HeadShape,
  read: Read,
  norms: Tensor,
  dys: readonly (Tensor | null)[],
  dx: Tensor,
  eps: number,
): Tensor {
  const { tokens, heads, keyHeads, size } = shape;
  const { gpu } = dx;
  const { pairs, pack } = packing(size);
  const given = dys.reduce((bits, dy, i) => bits | (dy ? 1 << i : 0), 0);
  const ranges = rowRanges(gpu, tokens, [...Object.values(read), dx]);
  if (ranges.length === 0) return Tensor.zeros(gpu, [2 * size]);
  const partsOf = ({ count }: RowRange) => Math.ceil(count / PART_ROWS);
  const parts = ranges.reduce((sum, range) => sum + partsOf(range), 0);
  const dnorms = Tensor.empty(gpu, [parts, 2 * size]);
  let part = 0;
  for (const range of ranges) {
    const { start, count } = range;
    const stacked = Tensor.empty(gpu, [count, (heads + 2 * keyHeads) * size]);
    let at = 0;
    for (const [i, dy] of dys.entries()) {
      const rowBytes = 4 * size * (i === 0 ? heads : keyHeads);
      if (dy) gpu.copy(dy.buffer, start * rowBytes, stacked.buffer, at, count * rowBytes);
      at += count * rowBytes;
    }
    const { stats, ...others } = bindingsOf({ ...read, dx }, tokens, range);
    const dy = stacked.buffer;
    const used = { ...others, norms: norms.buffer, dy };
    runHeads(backward, gpu, shape, range, used, { eps, given });
    dweight.run(gpu, {
      buffers: { ...others, stats, dy, dnorms: dnorms.buffer },
      params: {
        tokens: count,
        pairs,
        heads,
        key_heads: keyHeads,
        given,
        part_tokens: PART_ROWS,
        first_part: part,
      },
      knobs: { BLOCK: COLUMN_THREADS, TALL: COLUMN_THREADS, pack },
      grid: [pairs, 2, partsOf(range)],
    });
    part += partsOf(range);
    stacked.dispose();
  }
  if (parts === 1) return dnorms.alias([2 * size]);
  return columnSum(dnorms);
}
