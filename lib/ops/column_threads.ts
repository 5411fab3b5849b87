// How threads share columns in kernels that sum over rows (kernels/common/column_reduce.wgsl).

import type { Gpu } from "../gpu/device.ts";

/**
 * Rows that one workgroup adds up, at most; a multiple of 64. More rows make parts, whose sums are added up in turn:
 * a loop of more than 65535 turns ends early on llvmpipe, and GPUs want more workgroups.
 */
export const PART_ROWS = 8192;

/** Rows up to which one thread adds up a column alone. */
const FEW_ROWS = 32;

/**
 * Threads per workgroup, and per column. They depend on sizes and kind of adapter only, and so does the order of the sum.
 * Neighbouring threads have neighbouring columns, four of them on a GPU: whole sectors of its memory.
 */
export function columnThreads(gpu: Gpu, rows: number): { BLOCK: number; TALL: number } {
  if (rows <= FEW_ROWS) return { BLOCK: 64, TALL: 1 };
  return gpu.adapter.software ? { BLOCK: 64, TALL: 8 } : { BLOCK: 256, TALL: 64 };
}
