// The matmul kernels and the tiles they come in: what a choice is made of, and whether an adapter can run it.

import type { Gpu } from "../gpu/device.ts";

/** Depth of a slab of the tiled kernel, as in kernels/matmul_tiled.wgsl. */
const DEPTH = 16;

/** Kernels of products. */
export const MATMUL_KERNELS = [
  "naive",
  "register",
  "tiled",
  "subgroup",
  "few",
  "few_subgroup",
] as const;

/** A kernel and its tile. */
export interface MatmulTile {
  kernel: typeof MATMUL_KERNELS[number];
  /**
   * Rows of a tile, in fours: 1 or 2 per invocation (register, tiled), 4 or 8 per subgroup (subgroup). Rows at a time:
   * 1, 2 or 4 (few, few_subgroup).
   */
  rowBlocks: number;
  /** Columns per invocation, in fours: 1 or 2 (register, tiled), 1 (subgroup). */
  columnBlocks: number;
  /** Invocations along each side of a workgroup: 8 or 16 (tiled only). */
  side?: number;
}

/** Classes of products that share a choice: by layout (TT counts as TN), size of the result, and packed `b`. */
export const MATMUL_CLASSES = [
  "few NT",
  "small NN",
  "small NT",
  "small TN",
  "large NN",
  "large NT",
  "large TN",
  "packed few NT",
  "packed NT",
] as const;

/** One of them. */
export type MatmulClass = typeof MATMUL_CLASSES[number];

/** Whether an adapter can run a tile at all: its subgroups, workgroup memory and invocations suffice. */
export function canRun(
  gpu: Gpu,
  { kernel, rowBlocks, columnBlocks, side = 0 }: MatmulTile,
): boolean {
  const within = (value: number, ...allowed: number[]) => allowed.includes(value);
  switch (kernel) {
    case "naive":
      return within(rowBlocks, 1) && within(columnBlocks, 1);
    case "register":
      return within(rowBlocks, 1, 2) && within(columnBlocks, 1, 2);
    case "tiled": {
      if (!within(rowBlocks, 1, 2) || !within(columnBlocks, 1, 2) || !within(side, 8, 16)) {
        return false;
      }
      const { limits } = gpu.device;
      const values = 4 * DEPTH * side * (rowBlocks + columnBlocks) + 4 * (DEPTH / 4 + DEPTH);
      return 4 * values <= limits.maxComputeWorkgroupStorageSize &&
        side * side <= limits.maxComputeInvocationsPerWorkgroup;
    }
    case "subgroup":
      return within(rowBlocks, 4, 8) && within(columnBlocks, 1) &&
        within(gpu.subgroupSize, 4, 8, 16, 32) && rowBlocks <= gpu.subgroupSize;
    case "few":
    case "few_subgroup":
      return within(rowBlocks, 1, 2, 4) && within(columnBlocks, 1) &&
        (kernel === "few" || gpu.subgroupSize === 8);
  }
}

/** A tile in few words: `tiled 64x64 (16x16 invocations)`. */
export function tileName({ kernel, rowBlocks, columnBlocks, side = 0 }: MatmulTile): string {
  switch (kernel) {
    case "naive":
    case "few":
    case "few_subgroup":
      return kernel;
    case "register":
      return `register ${4 * rowBlocks}x${4 * columnBlocks}`;
    case "tiled":
      return `tiled ${4 * rowBlocks * side}x${4 * columnBlocks * side} by ${side}x${side}`;
    case "subgroup":
      return `subgroup ${4 * rowBlocks} rows`;
  }
}
