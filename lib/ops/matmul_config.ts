// Which matmul kernel runs, and with which tile: what was measured on this adapter (matmul_table.ts) where that is known,
// else what its kind suggests. Defaults for software are measured (matmul_bench.ts); those for GPUs were a
// guess, and on the one GPU measured (experiments/LOG.md) within some percent of the best for large products.

import type { Gpu } from "../gpu/device.ts";
import type { DType } from "../tensor.ts";
import { takesFew } from "./matmul_few.ts";
import { matmulTable } from "./matmul_table.ts";
import { canRun, type MatmulClass, type MatmulTile } from "./matmul_tile.ts";

/** A kernel and how it cuts the product. */
export interface MatmulChoice extends MatmulTile {
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

/** Results from which a product is large. */
const LARGE = 2 ** 18;

/** Rows and columns from which large tiles pay: half of the smallest that goes through workgroup memory. */
const TILED = 16;

/** The class of a product; undefined for those that nobody measures. */
export function classOf(
  sizes: MatmulSizes,
  dtype: DType,
  limitBytes: number,
): MatmulClass | undefined {
  const { rows, columns, transposeA, transposeB } = sizes;
  const packed = dtype !== "f32";
  if (rows <= (packed ? FEW_PACKED : FEW)) {
    if (!takesFew(sizes, dtype, limitBytes)) return undefined;
    return packed ? "packed few NT" : "few NT";
  }
  if (rows <= TILED || columns <= TILED) return undefined;
  if (packed) return !transposeA && transposeB ? "packed NT" : undefined;
  const layout = transposeA ? "TN" : transposeB ? "NT" : "NN";
  return `${rows * columns < LARGE ? "small" : "large"} ${layout}`;
}

/** The kernel and tile for one product on this adapter; `dtype` is that of `b`. */
export function chooseMatmul(
  gpu: Gpu,
  sizes: MatmulSizes,
  dtype: DType = "f32",
  limitBytes: number = gpu.maxBindingBytes,
): MatmulChoice {
  const table = matmulTable(gpu);
  const known = table && classOf(sizes, dtype, limitBytes);
  const tile = known && table.tiles[known];
  return withSplits(gpu, sizes, tile ?? defaultTile(gpu, sizes, dtype, limitBytes));
}

/** What the kind of adapter suggests. */
export function defaultTile(
  gpu: Gpu,
  sizes: MatmulSizes,
  dtype: DType = "f32",
  limitBytes: number = gpu.maxBindingBytes,
): MatmulTile {
  const { rows, columns } = sizes;
  const { software } = gpu.adapter;
  if (rows <= (dtype === "f32" ? FEW : FEW_PACKED) && takesFew(sizes, dtype, limitBytes)) {
    const lanes = software && gpu.subgroupSize === 8;
    const rowBlocks = rows > 2 ? 4 : rows;
    return { kernel: lanes ? "few_subgroup" : "few", rowBlocks, columnBlocks: 1 };
  }
  if (software) {
    if (rows <= 4) return { kernel: "register", rowBlocks: 1, columnBlocks: 2 };
    if (gpu.subgroupSize !== 8) return { kernel: "register", rowBlocks: 2, columnBlocks: 2 };
    return { kernel: "subgroup", rowBlocks: rows <= TILED ? 4 : 8, columnBlocks: 1 };
  }
  if (rows > TILED && columns > TILED) {
    // Larger tiles read memory less often; smaller ones give every core something to do.
    const tiles: (MatmulTile & { from: number })[] = [
      { kernel: "tiled", rowBlocks: 2, columnBlocks: 2, side: 16, from: 64 * BUSY },
      { kernel: "tiled", rowBlocks: 1, columnBlocks: 1, side: 16, from: 4 * BUSY },
      { kernel: "tiled", rowBlocks: 1, columnBlocks: 1, side: 8, from: 0 },
    ];
    const best = tiles.find((tile) => rows * columns >= tile.from && canRun(gpu, tile));
    if (best) {
      const { from: _, ...tile } = best;
      return tile;
    }
  }
  const blocks = rows > 4 && rows * columns >= 64 * BUSY ? 2 : 1;
  return { kernel: "register", rowBlocks: blocks, columnBlocks: blocks };
}

/** A tile on one product: the rows that a kernel for few takes at a time, and the splits that keep a GPU busy. */
export function withSplits(gpu: Gpu, sizes: MatmulSizes, tile: MatmulTile): MatmulChoice {
  const { rows, columns, inner } = sizes;
  const { kernel, rowBlocks, columnBlocks, side = 1 } = tile;
  if (kernel === "few" || kernel === "few_subgroup") {
    return { ...tile, rowBlocks: rows > 2 ? 4 : rows, splits: 1 };
  }
  if (gpu.adapter.software || kernel === "naive") return { ...tile, splits: 1 };
  const lanes = gpu.subgroupSize;
  const [high, wide, size] = kernel === "subgroup"
    ? [4 * rowBlocks, 4 * lanes, lanes]
    : [4 * rowBlocks * side, 4 * columnBlocks * side, side * side];
  const invocations = Math.ceil(rows / high) * Math.ceil(columns / wide) * size;
  const most = Math.min(MOST_SPLITS, Math.floor(inner / SPLIT_INNER));
  return { ...tile, splits: Math.max(1, Math.min(Math.ceil(BUSY / invocations), most)) };
}
