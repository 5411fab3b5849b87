// Runs a matrix product on device buffers: picks the kernel, aligns rows, cuts what is too large to bind.
// Not differentiable; `matmul` and `linear` build on it.

import access from "../../kernels/common/matmul_access.wgsl" with { type: "text" };
import denseB from "../../kernels/common/matmul_b.wgsl" with { type: "text" };
import packedB from "../../kernels/common/matmul_b_packed.wgsl" with { type: "text" };
import block from "../../kernels/common/matmul_block.wgsl" with { type: "text" };
import registerCode from "../../kernels/matmul.wgsl" with { type: "text" };
import naiveCode from "../../kernels/matmul_naive.wgsl" with { type: "text" };
import subgroupCode from "../../kernels/matmul_subgroup.wgsl" with { type: "text" };
import tiledCode from "../../kernels/matmul_tiled.wgsl" with { type: "text" };
import type { Gpu } from "../gpu/device.ts";
import { type Binding, Kernel } from "../gpu/kernel.ts";
import { type DType, Tensor } from "../tensor.ts";
import { columnSum } from "./column_sum.ts";
import { chooseMatmul, type MatmulChoice, type MatmulSizes } from "./matmul_config.ts";
import { multiplyFew, takesFew } from "./matmul_few.ts";
import { planMatmul } from "./matmul_plan.ts";
import { restride, rowsOf } from "./matmul_rows.ts";
import {
  alignedRows,
  isPackedDType,
  packedBinding,
  rowBytesOf,
  UNPACK_PARTS,
} from "./packed_rows.ts";

const layout = ["TRANSPOSE_A", "TRANSPOSE_B", "ADD_TO_C"] as const;
const parts = [block, access, denseB];

const naive = new Kernel("matmul_naive", { main: naiveCode, knobs: layout });
const register = new Kernel("matmul", {
  main: registerCode,
  parts,
  knobs: [...layout, "ROW_BLOCKS", "COLUMN_BLOCKS", "GROUP_X", "GROUP_Y"],
});
const subgroup = new Kernel("matmul_subgroup", {
  main: subgroupCode,
  parts,
  knobs: [...layout, "ROW_BLOCKS", "LANES"],
  subgroups: true,
});

const tiled = new Kernel("matmul_tiled", {
  main: tiledCode,
  parts,
  knobs: [...layout, "ROW_BLOCKS", "COLUMN_BLOCKS", "SIDE"],
});

/** For products of no inner values: of the fast kernels, this one takes that for no step at all. */
const BIAS_ONLY: MatmulChoice = { kernel: "register", rowBlocks: 1, columnBlocks: 1, splits: 1 };

/** Splits of k over packed operands start at multiples of this: the values in the fullest 16 bytes. */
const MOST_PERIOD = 32;

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
 * @param a any shape of rows·inner elements
 * @param b any shape of inner·columns f32 elements, or a packed matrix stored as `transposeB` says
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
  const limitBytes = options.limitBytes ?? gpu.maxBindingBytes;
  const choice = inner === 0
    ? BIAS_ONLY
    : options.choice ?? chooseMatmul(gpu, options, b.dtype, limitBytes);
  const width = choice.kernel === "naive" ? 1 : 4; // what strides are multiples of
  const alignedA = aligned(a, transposeA ? [inner, rows] : [rows, inner], width, limitBytes);
  const stored: [number, number] = transposeB ? [columns, inner] : [inner, columns];
  const alignedB = isPackedDType(b.dtype)
    ? alignedRows(b, limitBytes)
    : aligned(b, stored, width, limitBytes);
  if (choice.kernel === "few" || choice.kernel === "few_subgroup") {
    if (!takesFew(options, b.dtype, limitBytes)) {
      throw new TypeError(`internal: the ${choice.kernel} kernel does not take this product`);
    }
    const c = Tensor.empty(gpu, [rows, columns]);
    multiplyFew(alignedA, alignedB, c, { ...options, choice, limitBytes });
    alignedA.dispose();
    alignedB.dispose();
    return c;
  }
  const alignedC = multiply(alignedA, alignedB, { ...options, choice, limitBytes });
  alignedA.dispose();
  alignedB.dispose();
  if (alignedC.dim(1) === columns) return alignedC;
  const c = Tensor.empty(gpu, [rows, columns]);
  restride(alignedC, c, limitBytes);
  alignedC.dispose();
  return c;
}

function upTo(n: number, multiple: number): number {
  return Math.ceil(n / multiple) * multiple;
}

/** The matrix with rows padded by zeros to a multiple of `width`; a second handle if they are. */
function aligned(x: Tensor, shape: [number, number], width: number, limitBytes: number): Tensor {
  const view = x.alias(shape);
  if (shape[1] % width === 0) return view;
  const y = Tensor.empty(x.gpu, [shape[0], upTo(shape[1], width)]);
  restride(view, y, limitBytes);
  view.dispose();
  return y;
}

type Resolved = ProductOptions & { choice: MatmulChoice; limitBytes: number };

/** Launches the pieces. Strides are those of the tensors, also of the result; extents those of the options. */
function multiply(a: Tensor, b: Tensor, options: Resolved): Tensor {
  const { rows, columns, inner, transposeA, transposeB, bias, choice } = options;
  const stride = choice.kernel === "naive" ? columns : upTo(columns, 4);
  const packed = isPackedDType(b.dtype);
  const pieces = planMatmul(options, options.limitBytes, packed ? rowBytesOf(b) : undefined);
  const most = Math.floor(options.limitBytes / (4 * rows * stride)); // partial results are bound as one
  const wanted = pieces.length === 1 && inner > 0 ? Math.min(choice.splits, most) : 1;
  const innerStep = upTo(Math.ceil(Math.max(inner, 1) / wanted), packed ? MOST_PERIOD : 4);
  const splits = Math.max(1, Math.ceil(inner / innerStep));
  const c = Tensor.empty(a.gpu, [splits * rows, stride]);
  for (const p of pieces) {
    const [start, count] = transposeB ? [p.column, p.columns] : [p.k, p.inner];
    const bBinding = packed ? packedBinding(b, { start, count }) : rowsOf(b, start, count);
    const buffers: Record<string, Binding> = {
      a: transposeA ? rowsOf(a, p.k, p.inner) : rowsOf(a, p.row, p.rows),
      b: bBinding,
      c: splits > 1 ? c.buffer : rowsOf(c, p.row, p.rows),
      bias: bias ? bias.buffer : bBinding, // bound, not read
    };
    const params = {
      rows: p.rows,
      columns: p.columns,
      inner: p.inner,
      a_stride: a.dim(1),
      b_stride: packed ? rowBytesOf(b) / 16 : b.dim(1),
      c_stride: c.dim(1),
      a_start: transposeA ? p.row : p.k,
      b_start: transposeB ? p.k : p.column,
      c_start: p.column,
      bias_start: p.column,
      add_bias: bias && p.k === 0 ? 1 : 0,
      inner_step: pieces.length === 1 ? innerStep : p.inner,
      c_plane: rows * stride,
    };
    const knobs = {
      TRANSPOSE_A: transposeA ? 1 : 0,
      TRANSPOSE_B: transposeB ? 1 : 0,
      ADD_TO_C: p.k > 0 ? 1 : 0,
    };
    launch(a.gpu, choice, { buffers, params, knobs, splits, dtype: b.dtype });
  }
  if (splits === 1) return c;
  const planes = c.alias([splits, rows * stride]);
  const sum = columnSum(planes);
  const result = sum.alias([rows, stride]);
  for (const t of [planes, sum, c]) t.dispose();
  return result;
}

/** One piece, ready to run; `dtype` is that of b. */
interface Piece {
  buffers: Record<string, Binding>;
  params: Record<string, number>;
  knobs: Record<typeof layout[number], number>;
  splits: number;
  dtype: DType;
}

function launch(gpu: Gpu, choice: MatmulChoice, piece: Piece): void {
  const { buffers, params, splits, dtype } = piece;
  const { rowBlocks, columnBlocks } = choice;
  const tiles = (width: number, height: number) => [
    Math.ceil(params.columns / width),
    Math.ceil(params.rows / height),
  ];
  const packed = isPackedDType(dtype);
  const work = { flop: 2 * params.rows * params.columns * params.inner };
  const launchParts = packed ? [block, access, packedB, UNPACK_PARTS[dtype]] : parts;
  switch (choice.kernel) {
    case "naive":
      if (packed) throw new TypeError(`internal: the naive kernel does not unpack ${dtype}`);
      naive.run(gpu, { buffers, params, knobs: piece.knobs, grid: tiles(8, 8), work });
      break;
    case "subgroup": {
      const knobs = { ...piece.knobs, ROW_BLOCKS: rowBlocks, LANES: gpu.subgroupSize };
      const grid = [...tiles(4 * gpu.subgroupSize, 4 * rowBlocks), splits];
      subgroup.run(gpu, { buffers, params, knobs, parts: launchParts, grid, work });
      break;
    }
    case "tiled": {
      const side = choice.side ?? 16;
      const knobs = {
        ...piece.knobs,
        ROW_BLOCKS: rowBlocks,
        COLUMN_BLOCKS: columnBlocks,
        SIDE: side,
      };
      const grid = [...tiles(4 * columnBlocks * side, 4 * rowBlocks * side), splits];
      tiled.run(gpu, { buffers, params, knobs, parts: launchParts, grid, work });
      break;
    }
    case "register": {
      const [x, y] = tiles(4 * columnBlocks, 4 * rowBlocks);
      const few = gpu.adapter.software && x * y < 512; // small groups spread over the cores
      const group = { GROUP_X: 8, GROUP_Y: few ? 1 : 8 };
      const knobs = {
        ...piece.knobs,
        ...group,
        ROW_BLOCKS: rowBlocks,
        COLUMN_BLOCKS: columnBlocks,
      };
      const grid = [Math.ceil(x / group.GROUP_X), Math.ceil(y / group.GROUP_Y), splits];
      register.run(gpu, { buffers, params, knobs, parts: launchParts, grid, work });
    }
  }
}
