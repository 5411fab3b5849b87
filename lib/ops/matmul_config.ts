// Which matmul kernel runs, and with which tile. Measured on the software adapter; on a GPU the register
// kernel with small workgroups is a starting point that needs no subgroups and no shared memory.

import type { Gpu } from "../gpu/device.ts";

/** A kernel with its tile: each invocation (or subgroup) covers 4·rowBlocks × 4·columnBlocks sums per lane. */
export interface MatmulChoice {
  kernel: "naive" | "register" | "subgroup";
  rowBlocks: number;
  columnBlocks: number;
}

/** Sizes of one product. */
export interface MatmulSizes {
  rows: number;
  columns: number;
  inner: number;
  transposeA: boolean;
  transposeB: boolean;
}

/** The kernel and tile for one product on this adapter. */
export function chooseMatmul(gpu: Gpu, { rows, columns }: MatmulSizes): MatmulChoice {
  if (gpu.adapter.software && gpu.subgroupSize === 8 && rows > 4 && columns > 4) {
    const rowBlocks = rows > 16 ? 8 : rows > 8 ? 4 : 2;
    return { kernel: "subgroup", rowBlocks, columnBlocks: 1 };
  }
  return {
    kernel: "register",
    rowBlocks: rows > 4 ? 2 : 1,
    columnBlocks: columns > 4 && (gpu.adapter.software || rows * columns >= 2 ** 18) ? 2 : 1,
  };
}
