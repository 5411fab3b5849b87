// Which matmul kernel runs, and with which tile. Tiles are measured on the software adapter (see
// matmul_bench.ts); the numbers for GPUs are a starting point that nobody has measured yet.

import type { Gpu } from "../gpu/device.ts";
import type { DType } from "../tensor.ts";
import { takesFew } from "./matmul_few.ts";

/** A kernel and how it cuts the product. */
export interface MatmulChoice {
  kernel: "naive" | "register" | "subgroup" | "few" | "few_subgroup";
  /**
   * Rows of a tile, in fours: 1 or 2 per invocation (register), 4 or 8 per subgroup (subgroup). Rows at a time: 1, 2
   * or 4 (few, few_subgroup).
   */
  rowBlocks: number;
  /** Columns per invocation, in fours: 1 or 2 (register), 1 (subgroup). */
  columnBlocks: number;
  /** Parts of the inner axis summed apart and then together, in order; the naive kernel takes 1. */
  splits: number;
}

/** Sizes of one product. */
export interface MatmulSizes {
  rows: number;
  columns: number;
  inner: number;
  /** `a` is stored (inner, rows). */
  transposeA: boolean;
  /** `b` is stored (columns, inner). */
  transposeB: boolean;
}

/** Invocations that keep a GPU busy. */
const BUSY = 2 ** 15;
/** Inner length worth a split of its own, and the most splits. */
const SPLIT_INNER = 64;
const MOST_SPLITS = 32;

/** Rows up to which a product counts as one of few: with f32 weights and with packed ones. */
const FEW = 4;
const FEW_PACKED = 8;

/** The kernel and tile for one product on this adapter; `dtype` is that of `b`. */
export function chooseMatmul(
  gpu: Gpu,
  sizes: MatmulSizes,
  dtype: DType = "f32",
  limitBytes: number = gpu.maxBindingBytes,
): MatmulChoice {
  const { rows, columns, inner } = sizes;
  if (rows <= (dtype === "f32" ? FEW : FEW_PACKED) && takesFew(sizes, dtype, limitBytes)) {
    const lanes = gpu.adapter.software && gpu.subgroupSize === 8;
    const rowBlocks = rows > 2 ? 4 : rows;
    return { kernel: lanes ? "few_subgroup" : "few", rowBlocks, columnBlocks: 1, splits: 1 };
  }
  if (gpu.adapter.software) {
    if (rows <= 4) return { kernel: "register", rowBlocks: 1, columnBlocks: 2, splits: 1 };
    if (gpu.subgroupSize !== 8) {
      return { kernel: "register", rowBlocks: 2, columnBlocks: 2, splits: 1 };
    }
    return { kernel: "subgroup", rowBlocks: rows <= 16 ? 4 : 8, columnBlocks: 1, splits: 1 };
  }
  const blocks = rows > 4 && rows * columns >= 64 * BUSY ? 2 : 1;
  const invocations = Math.ceil(rows / (4 * blocks)) * Math.ceil(columns / (4 * blocks));
  const most = Math.min(MOST_SPLITS, Math.floor(inner / SPLIT_INNER));
  const splits = Math.max(1, Math.min(Math.ceil(BUSY / invocations), most));
  return { kernel: "register", rowBlocks: blocks, columnBlocks: blocks, splits };
}
