// Launches kernels that treat a tensor row by row. A software adapter gives each row one thread; a GPU
// gives it several neighbours, which read whole cache lines. Columns are read four at a time where their
// number allows, and tensors over the binding limit are covered by several launches.

import pack1 from "../../kernels/common/pack1.wgsl" with { type: "text" };
import pack4 from "../../kernels/common/pack4.wgsl" with { type: "text" };
import rowReduce from "../../kernels/common/row_reduce.wgsl" with { type: "text" };
import type { Tensor } from "../tensor.ts";
import type { Gpu } from "./device.ts";
import { type Binding, foldGrid, type Kernel } from "./kernel.ts";

/** The knobs a row kernel declares: threads per workgroup, threads per row, and `f32` or `vec4f`. */
export const ROW_KNOBS = ["BLOCK", "LANES", "pack"] as const;
type RowKnob = (typeof ROW_KNOBS)[number];

/** The parts a row kernel is loaded with, for packs of one. */
export const ROW_PARTS: readonly string[] = [rowReduce, pack1];
const WIDE_PARTS: readonly string[] = [rowReduce, pack4];

/** Rows [start, start + count) of a tensor that does not fit one binding. */
export interface RowRange {
  start: number;
  count: number;
}

/** Bytes one row takes. */
function rowBytes(tensor: Tensor, rows: number): number {
  return 4 * tensor.size / rows;
}

/**
 * Cuts rows into ranges whose bindings the adapter allows, starts being multiples of 64 rows so that
 * offsets are multiples of 256 bytes. One range in nearly all cases, none for 0 rows.
 */
export function rowRanges(gpu: Gpu, rows: number, tensors: readonly Tensor[]): RowRange[] {
  if (rows === 0) return [];
  const most = gpu.maxBindingBytes;
  if (tensors.every((t) => t.buffer.sizeBytes <= most)) return [{ start: 0, count: rows }];
  const widest = Math.max(...tensors.map((t) => rowBytes(t, rows)));
  const step = Math.floor(most / widest / 64) * 64;
  if (step === 0) {
    throw new TypeError(
      `Cannot process rows of ${widest} bytes: 64 of them exceed the binding limit of ${most}`,
    );
  }
  const ranges: RowRange[] = [];
  for (let start = 0; start < rows; start += step) {
    ranges.push({ start, count: Math.min(step, rows - start) });
  }
  return ranges;
}

/** The binding of a range of a tensor's rows; `rows` is how many the tensor has. */
export function rowBinding(tensor: Tensor, rows: number, { start, count }: RowRange): Binding {
  if (start === 0 && count === rows) return tensor.buffer;
  const bytes = rowBytes(tensor, rows);
  return {
    buffer: tensor.buffer,
    offset: start * bytes,
    sizeBytes: Math.ceil(count * bytes / 16) * 16,
  };
}

/** How many threads share a row of `packs` loads, and how many make a workgroup. */
export function rowThreads(gpu: Gpu, packs: number): { BLOCK: number; LANES: number } {
  if (gpu.adapter.software) return { BLOCK: 64, LANES: 1 };
  const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, packs / 4)));
  const LANES = Math.min(256, wanted);
  return { BLOCK: Math.max(64, LANES), LANES };
}

/** What a row kernel runs over. */
export interface RowLaunch {
  /** Number of rows. */
  rows: number;
  /** Values per row, the last axis. */
  cols: number;
  /** Tensors with something for each row (any width), by WGSL name. */
  rowwise: Record<string, Tensor>;
  /** Tensors bound whole. */
  whole?: Record<string, Tensor>;
  params?: Record<string, number>;
}

/**
 * Runs a row kernel. It gets the params `rows` and `cols`, the latter counted in packs, and
 * `values`, the number of columns; kernels declare those they use.
 */
export function runRows<Knob extends string>(
  kernel: Kernel<Knob | RowKnob>,
  gpu: Gpu,
  { rows, cols, rowwise, whole, params }: RowLaunch,
): void {
  const wide = cols % 4 === 0;
  const packs = wide ? cols / 4 : cols;
  const threads = rowThreads(gpu, packs);
  const fixed: Record<string, Binding> = {};
  for (const name in whole) fixed[name] = whole[name].buffer;
  for (const range of rowRanges(gpu, rows, Object.values(rowwise))) {
    const buffers = { ...fixed };
    for (const name in rowwise) buffers[name] = rowBinding(rowwise[name], rows, range);
    kernel.run(gpu, {
      buffers,
      params: { ...params, rows: range.count, cols: packs, values: cols },
      knobs: { ...threads, pack: wide ? "vec4f" : "f32" } as Record<
        Knob | RowKnob,
        number | string
      >,
      parts: wide ? WIDE_PARTS : ROW_PARTS,
      grid: foldGrid(Math.ceil(range.count * threads.LANES / threads.BLOCK)),
    });
  }
}
