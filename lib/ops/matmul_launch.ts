// Runs a matrix product on device buffers: picks the kernel, cuts what is too large, matches strides and
// alignment. Not differentiable; `matmul` and `linear` build on it.

import block from "../../kernels/common/matmul_block.wgsl" with { type: "text" };
import scalarCells from "../../kernels/common/matmul_scalar.wgsl" with { type: "text" };
import vectorCells from "../../kernels/common/matmul_vec4.wgsl" with { type: "text" };
import naiveCode from "../../kernels/matmul_naive.wgsl" with { type: "text" };
import registerCode from "../../kernels/matmul.wgsl" with { type: "text" };
import subgroupCode from "../../kernels/matmul_subgroup.wgsl" with { type: "text" };
import { type Binding, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { chooseMatmul, type MatmulChoice, type MatmulSizes } from "./matmul_config.ts";
import { planMatmul } from "./matmul_plan.ts";

const naive = new Kernel("matmul_naive", {
  main: naiveCode,
  knobs: ["TRANSPOSE_A", "TRANSPOSE_B"],
});
const register = new Kernel("matmul", {
  main: registerCode,
  knobs: [
    "cell",
    "TRANSPOSE_A",
    "TRANSPOSE_B",
    "ROW_BLOCKS",
    "COLUMN_BLOCKS",
    "GROUP_X",
    "GROUP_Y",
  ],
});
const subgroup = new Kernel("matmul_subgroup", {
  main: subgroupCode,
  knobs: ["cell", "TRANSPOSE_A", "TRANSPOSE_B", "ROW_BLOCKS", "COLUMN_BLOCKS"],
  subgroups: true,
});

/** Options of {@link product}. */
export interface ProductOptions extends MatmulSizes {
  /** (columns) added to every row. */
  bias?: Tensor | undefined;
  /** Overrides the choice for the adapter. */
  choice?: MatmulChoice;
  /** Overrides the adapter's largest binding, in bytes. */
  limitBytes?: number;
}

/**
 * `c = a·b (+ bias)`, (rows, columns), from (rows, inner) and (inner, columns), either stored transposed.
 *
 * @throws {RangeError} If an element index would not fit 32 bits
 */
export function product(a: Tensor, b: Tensor, options: ProductOptions): Tensor {
  const { rows, columns, inner, transposeA, transposeB, bias } = options;
  const gpu = a.gpu;
  if (Math.max(rows * inner, inner * columns, rows * columns) > 2 ** 32) {
    throw new RangeError(
      `Cannot multiply (${rows}, ${inner}) by (${inner}, ${columns}): more than 2^32 elements`,
    );
  }
  if (rows === 0 || columns === 0) return Tensor.empty(gpu, [rows, columns]);
  if (inner === 0 && !bias) return Tensor.zeros(gpu, [rows, columns]);
  const c = Tensor.empty(gpu, [rows, columns]);
  const strides = {
    a_stride: transposeA ? rows : inner,
    b_stride: transposeB ? inner : columns,
    c_stride: columns,
  };
  const aligned = inner > 0 && Object.values(strides).every((s) => s % 4 === 0);
  const choice = options.choice ?? chooseMatmul(gpu, options);
  const pieces = planMatmul(options, options.limitBytes ?? gpu.maxBindingBytes);
  if (inner === 0) {
    pieces.push({ row: 0, rows, column: 0, columns, k: 0, inner: 0 });
  }
  for (const p of pieces) {
    const aRange = transposeA ? [p.k, p.inner] : [p.row, p.rows];
    const bRange = transposeB ? [p.column, p.columns] : [p.k, p.inner];
    const buffers = {
      a: rowsOf(a, strides.a_stride, aRange[0], aRange[1]),
      b: rowsOf(b, strides.b_stride, bRange[0], bRange[1]),
      c: rowsOf(c, columns, p.row, p.rows),
      bias: (bias ?? b).buffer as Binding,
    };
    if (!bias) buffers.bias = buffers.b;
    const params = {
      rows: p.rows,
      columns: p.columns,
      inner: p.inner,
      ...strides,
      a_start: transposeA ? p.row : p.k,
      b_start: transposeB ? p.k : p.column,
      c_start: p.column,
      bias_start: p.column,
      add_bias: bias && p.k === 0 ? 1 : 0,
      add_to_c: p.k > 0 ? 1 : 0,
    };
    launch(a.gpu, choice, { buffers, params }, {
      cell: aligned ? "vec4f" : "f32",
      TRANSPOSE_A: transposeA ? 1 : 0,
      TRANSPOSE_B: transposeB ? 1 : 0,
    });
  }
  return c;
}

interface Arguments {
  buffers: Record<string, Binding>;
  params: Record<string, number>;
}

function launch(
  gpu: Tensor["gpu"],
  choice: MatmulChoice,
  { buffers, params }: Arguments,
  layout: { cell: string; TRANSPOSE_A: number; TRANSPOSE_B: number },
): void {
  const { rows, columns } = params;
  const { cell, ...transposes } = layout;
  const { rowBlocks, columnBlocks } = choice;
  if (choice.kernel === "naive") {
    const grid = [Math.ceil(columns / 8), Math.ceil(rows / 8)];
    naive.run(gpu, { buffers, params, knobs: transposes, grid });
    return;
  }
  const parts = [block, cell === "vec4f" ? vectorCells : scalarCells];
  const knobs = { ...layout, ROW_BLOCKS: rowBlocks, COLUMN_BLOCKS: columnBlocks };
  if (choice.kernel === "subgroup") {
    const grid = [Math.ceil(columns / (32 * columnBlocks)), Math.ceil(rows / (4 * rowBlocks))];
    subgroup.run(gpu, { buffers, params, parts, knobs, grid });
    return;
  }
  const tilesX = Math.ceil(columns / (4 * columnBlocks));
  const tilesY = Math.ceil(rows / (4 * rowBlocks));
  const groupX = 8;
  const groupY = tilesX * tilesY < 512 ? 1 : 8;
  register.run(gpu, {
    buffers,
    params,
    parts,
    knobs: { ...knobs, GROUP_X: groupX, GROUP_Y: groupY },
    grid: [Math.ceil(tilesX / groupX), Math.ceil(tilesY / groupY)],
  });
}

/** Rows [start, start + count) of a matrix as a binding; the whole buffer when that is all of it. */
function rowsOf(x: Tensor, width: number, start: number, count: number): Binding {
  if (start === 0 && count * width === x.size) return x.buffer;
  const sizeBytes = Math.ceil(count * width / 4) * 16;
  return { buffer: x.buffer, offset: 4 * start * width, sizeBytes };
}
