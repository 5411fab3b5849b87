// Launches of the kernels behind head_norm_rope.ts: how heads lie in memory, and what is bound where.

import backwardCode from "../../kernels/head_norm_rope_backward.wgsl" with { type: "text" };
import columnReduce from "../../kernels/common/column_reduce.wgsl" with { type: "text" };
import dweightCode from "../../kernels/head_norm_dweight.wgsl" with { type: "text" };
import forwardCode from "../../kernels/head_norm_rope.wgsl" with { type: "text" };
import pack1 from "../../kernels/common/pack1.wgsl" with { type: "text" };
import pack4 from "../../kernels/common/pack4.wgsl" with { type: "text" };
import rowReduce from "../../kernels/common/row_reduce.wgsl" with { type: "text" };
import { type Binding, foldGrid, Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, rowThreads } from "../gpu/rows.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { columnSum } from "./column_sum.ts";
import { PART_ROWS } from "./column_threads.ts";
import type { RopeTables } from "./rope.ts";
import type { RowIndex } from "./row_index.ts";
import { unstackRows, VIEW_STEP } from "./stack_rows.ts";

const knobs = [...ROW_KNOBS, "MAPPED"] as const;
const parts = ROW_PARTS;
const forward = new Kernel("head_norm_rope", { main: forwardCode, parts, knobs });
const backward = new Kernel("head_norm_rope_backward", { main: backwardCode, parts, knobs });
const dweight = new Kernel("head_norm_dweight", {
  main: dweightCode,
  parts: [columnReduce],
  knobs: ["BLOCK", "TALL", "MAPPED", "pack"],
});

/** Threads that share a column of the norm weights' gradient. */
const COLUMN_THREADS = 64;

/** Sizes of heads. */
export interface HeadSizes {
  /** Query heads H. */
  heads: number;
  /** Key and value heads K. */
  keyHeads: number;
  /** Added to the mean square of a head. Default: 1e-6. */
  eps?: number;
}

/** One projection. */
export interface HeadPart {
  /** (M, (H + 2K)·D) rows `[q | k | v]` */
  x: Tensor;
  /** (D) weights of the queries' and of the keys' norm */
  qNorm: Tensor;
  kNorm: Tensor;
  /** Made by `ropeTables` for the M tokens and D. */
  tables: RopeTables;
  /** Where the tokens stand among all; default: as they are. */
  rows?: RowIndex;
}

/** A projection with its norms' weights one after the other, and 1/deviation of every head. */
export interface PartRun {
  part: HeadPart;
  norms: Tensor;
  stats: Tensor;
}

/** Where queries, keys and values lie in one tensor: shapes, first values, and the kernels' params for those. */
export interface HeadLayout {
  shapes: readonly (readonly number[])[];
  firsts: readonly number[];
  starts: { k_start: number; v_start: number };
  end: number;
}

/** The layout for N tokens and heads of `size`. */
export function layoutOf(tokens: number, size: number, { heads, keyHeads }: HeadSizes): HeadLayout {
  const shapes = [heads, keyHeads, keyHeads].map((count) => [tokens, count, size]);
  const firsts: number[] = [];
  let end = 0;
  for (const shape of shapes) {
    firsts.push(end);
    end += VIEW_STEP * Math.ceil(sizeOf(shape) / VIEW_STEP);
  }
  const width = packing(size).pack === "f32" ? 1 : 4; // values of a pack
  return {
    shapes,
    firsts,
    starts: { k_start: firsts[1] / width, v_start: firsts[2] / width },
    end,
  };
}

/** Pairs of a head's halves, counted in packs. */
function packing(size: number): { pairs: number; pack: string } {
  const wide = size % 8 === 0;
  return { pairs: size / (wide ? 8 : 2), pack: wide ? "vec4f" : "f32" };
}

function inputsOf({ part: { x, tables, rows }, norms }: PartRun): Record<string, Binding> {
  const places = (rows?.indices ?? norms).buffer; // bound, not read without rows
  const [cosine, sine] = [tables.cos.buffer, tables.sin.buffer];
  return { x: x.buffer, norms: norms.buffer, cosine, sine, places };
}

/** Fills `y`, in the places of the projection's tokens, and `stats`. */
export function runForward(
  run: PartRun,
  y: Tensor,
  layout: HeadLayout,
  sizes: Required<HeadSizes>,
  size: number,
): void {
  const buffers = { ...inputsOf(run), y: y.buffer, stats: run.stats.buffer };
  runHeads(forward, run, size, sizes, buffers, { eps: sizes.eps, ...layout.starts });
}

/** Runs a kernel over all heads of a projection. */
function runHeads(
  kernel: typeof forward,
  { part }: PartRun,
  size: number,
  { heads, keyHeads }: HeadSizes,
  buffers: Record<string, Binding>,
  params: Record<string, number>,
): void {
  const { gpu } = part.x;
  const { pairs, pack } = packing(size);
  const threads = rowThreads(gpu, 2 * pairs);
  const rows = part.x.dim(0) * (heads + 2 * keyHeads);
  if (rows === 0) return;
  kernel.run(gpu, {
    buffers,
    params: { ...params, rows, pairs, heads, key_heads: keyHeads, size },
    knobs: { ...threads, MAPPED: part.rows ? 1 : 0, pack },
    parts: [rowReduce, pack === "f32" ? pack1 : pack4],
    grid: foldGrid(Math.ceil(rows * threads.LANES / threads.BLOCK)),
  });
}

interface Arrived {
  /** Laid out as the heads: kernels on software adapters pay for every buffer they might read. */
  dy: Tensor;
  /** Bits 1, 2, 4: which of queries, keys and values have a gradient. */
  given: number;
  layout: HeadLayout;
  sizes: Required<HeadSizes>;
  size: number;
}

/** Gradients of a projection's rows and of both its norms' weights. */
export function partGradients(
  run: PartRun,
  { dy, given, layout, sizes, size }: Arrived,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const { x, qNorm, kNorm, rows } = run.part;
  const { gpu } = x;
  const inputs = { ...inputsOf(run), dy: dy.buffer };
  let dx: Tensor | null = null;
  if (needs[0]) {
    dx = Tensor.empty(gpu, x.shape);
    const buffers = { ...inputs, dx: dx.buffer };
    runHeads(backward, run, size, sizes, buffers, { eps: sizes.eps, given, ...layout.starts });
  }
  if (!needs[1] && !needs[2]) return [dx, null, null];
  const { pairs, pack } = packing(size);
  const tokens = x.dim(0);
  const count = Math.ceil(tokens / PART_ROWS);
  const sums = Tensor.empty(gpu, [count, 2 * size]);
  if (count > 0) {
    dweight.run(gpu, {
      buffers: { ...inputs, stats: run.stats.buffer, dnorms: sums.buffer },
      params: {
        tokens,
        pairs,
        heads: sizes.heads,
        key_heads: sizes.keyHeads,
        k_start: layout.starts.k_start,
        given,
        part_tokens: PART_ROWS,
      },
      knobs: { BLOCK: COLUMN_THREADS, TALL: COLUMN_THREADS, MAPPED: rows ? 1 : 0, pack },
      grid: [pairs, 2, count],
    });
  }
  const dnorms = count === 1 ? sums.alias([2 * size]) : columnSum(sums);
  return [dx, ...unstackRows(dnorms, [qNorm.shape, kNorm.shape], [needs[1], needs[2]])];
}
