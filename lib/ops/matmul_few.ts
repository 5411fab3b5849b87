// Products of few rows with stored rows of weights, f32 or packed: what decoding one token at a time is made of.
// Nothing but the weights is worth counting there, so each is read once, in whole 16-byte units.

import fewPart from "../../kernels/common/matmul_few.wgsl" with { type: "text" };
import bf16 from "../../kernels/common/unpack32_bf16.wgsl" with { type: "text" };
import f16 from "../../kernels/common/unpack32_f16.wgsl" with { type: "text" };
import f32 from "../../kernels/common/unpack32_f32.wgsl" with { type: "text" };
import int4 from "../../kernels/common/unpack32_int4.wgsl" with { type: "text" };
import int8 from "../../kernels/common/unpack32_int8.wgsl" with { type: "text" };
import portableCode from "../../kernels/matmul_few.wgsl" with { type: "text" };
import subgroupCode from "../../kernels/matmul_few_subgroup.wgsl" with { type: "text" };
import { Kernel, MAX_GROUPS } from "../gpu/kernel.ts";
import { isPacked } from "../packed_layout.ts";
import type { DType, Tensor } from "../tensor.ts";
import type { MatmulChoice, MatmulSizes } from "./matmul_config.ts";
import { isPackedDType, packedBinding, packedRanges, rowBytesOf } from "./packed_rows.ts";

const PARTS: Partial<Record<DType, string>> = { f32, bf16, f16, int8, int4 };
const parts = [fewPart, f32];

const portable = new Kernel("matmul_few", {
  main: portableCode,
  parts,
  knobs: ["ROWS", "BLOCK"],
});
const subgroup = new Kernel("matmul_few_subgroup", {
  main: subgroupCode,
  parts,
  knobs: ["ROWS"],
  subgroups: true,
});

/** Values of k per step; shorter rows must end in zeros, as int8 and int4 rows do. */
const STEP = 32;
/** Columns per workgroup of either kernel. */
const COLUMNS = { few: 4, few_subgroup: 32 } as const;

/** True if the kernels for few rows can take a product: both operands stored along k, in whole steps. */
export function takesFew(sizes: MatmulSizes, dtype: DType, limitBytes: number): boolean {
  const { rows, columns, inner, transposeA, transposeB } = sizes;
  const whole = inner > 0 && (isPacked(dtype) || inner % STEP === 0);
  const bound = 4 * Math.max(rows * columns, rows * (inner + 3)) <= limitBytes;
  return !transposeA && transposeB && whole && bound && columns <= COLUMNS.few * MAX_GROUPS;
}

/**
 * Runs `c = a·bᵀ (+ bias)` into `c` (rows, columns).
 *
 * @param a (rows, inner) with rows of whole vec4s
 * @param b (columns, inner) of whole 16-byte units per row
 */
export function multiplyFew(
  a: Tensor,
  b: Tensor,
  c: Tensor,
  { rows, inner, columns, bias, choice, limitBytes }: MatmulSizes & {
    bias?: Tensor | undefined;
    choice: MatmulChoice;
    limitBytes: number;
  },
): void {
  const { gpu } = a;
  const rowBytes = rowBytesOf(b);
  const launchParts = [fewPart, PARTS[b.dtype]!];
  for (const range of packedRanges(columns, rowBytes, limitBytes)) {
    const weights = packedBinding(b, range);
    const buffers = { a: a.buffer, b: weights, c: c.buffer, bias: bias ? bias.buffer : weights };
    const params = {
      rows,
      columns: range.count,
      inner,
      steps: Math.ceil(inner / STEP),
      a_stride: a.dim(1),
      b_stride: rowBytes / 16,
      c_stride: columns,
      c_start: range.start,
      bias_start: range.start,
      add_bias: bias ? 1 : 0,
    };
    const work = { flop: 2 * rows * range.count * inner };
    const ROWS = choice.rowBlocks;
    const height = Math.ceil(rows / ROWS);
    if (choice.kernel === "few_subgroup") {
      const grid = [Math.ceil(range.count / COLUMNS.few_subgroup), height];
      subgroup.run(gpu, { buffers, params, parts: launchParts, knobs: { ROWS }, grid, work });
    } else {
      const BLOCK = gpu.adapter.software ? 8 : isPackedDType(b.dtype) ? 32 : 64;
      const grid = [Math.ceil(range.count / COLUMNS.few), height];
      const knobs = { ROWS, BLOCK };
      portable.run(gpu, { buffers, params, parts: launchParts, knobs, grid, work });
    }
  }
}
