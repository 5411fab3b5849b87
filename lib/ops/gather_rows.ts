// Rows picked by number, and the way back: how tokens of one kind are taken out of a sequence and put
// back, and how embeddings are looked up.

import packedCode from "../../kernels/gather_packed.wgsl" with { type: "text" };
import gatherCode from "../../kernels/gather_rows.wgsl" with { type: "text" };
import segmentsCode from "../../kernels/sum_segments.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowBinding, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { restride, rowsOf } from "./matmul_rows.ts";
import {
  alignedRows,
  hasGradient,
  isPackedDType,
  packedBinding,
  type PackedDType,
  packedRanges,
  rowBytesOf,
  UNPACK_PARTS,
} from "./packed_rows.ts";
import type { RowIndex } from "./row_index.ts";

const knobs = ["BLOCK", "pack"] as const;
const gatherKernel = new Kernel("gather_rows", { main: gatherCode, knobs });
const segmentsKernel = new Kernel("sum_segments", { main: segmentsCode, knobs });

const packedKernel = new Kernel("gather_packed", {
  main: packedCode,
  parts: [UNPACK_PARTS.int4],
  knobs: ["BLOCK"],
  texels: false, // of a whole vocabulary, a few rows are read
});

const BLOCK = 64;

/** Values per row, in loads: four at a time where their number allows. */
function packsOf(values: number): { cols: number; pack: "f32" | "vec4f" } {
  return values % 4 === 0 ? { cols: values / 4, pack: "vec4f" } : { cols: values, pack: "f32" };
}

/** `y[i] = x[indices[i]]`, zero where the index is negative. Not recorded. */
function gather(x: Tensor, indices: Tensor, count: number): Tensor {
  const { gpu } = x;
  const rows = x.dim(0);
  const y = Tensor.empty(gpu, [count, ...x.shape.slice(1)]);
  if (y.size === 0) return y;
  if (rows === 0) {
    gpu.clear(y.buffer);
    return y;
  }
  const { cols, pack } = packsOf(x.size / rows);
  for (const seen of rowRanges(gpu, rows, [x])) {
    for (const made of rowRanges(gpu, count, [y])) {
      const n = made.count * cols;
      gatherKernel.run(gpu, {
        buffers: {
          x: rowBinding(x, rows, seen),
          indices: rowBinding(indices, count, made),
          y: rowBinding(y, count, made),
        },
        params: { n, cols, first: seen.start, count: seen.count },
        texels: 2 * made.count > seen.count,
        knobs: { BLOCK, pack },
        grid: foldGrid(Math.ceil(n / BLOCK)),
        work: { bytes: 4 * made.count * (2 * x.size / rows + 1) }, // the rows it picks, not all of x
      });
    }
  }
  return y;
}

/** The same for a matrix of packed rows, as f32. */
function gatherPacked(x: Tensor, dtype: PackedDType, indices: Tensor, count: number): Tensor {
  const { gpu } = x;
  const [rows, columns] = x.shape;
  const packs = Math.ceil(columns / 4);
  const y = Tensor.empty(gpu, [count, 4 * packs]);
  if (y.size === 0) return y;
  const limitBytes = gpu.maxBindingBytes;
  const aligned = alignedRows(x, limitBytes);
  const rowBytes = rowBytesOf(aligned);
  for (const seen of packedRanges(rows, rowBytes, limitBytes)) {
    for (const made of packedRanges(count, 16 * packs, limitBytes)) {
      const n = made.count * packs;
      packedKernel.run(gpu, {
        buffers: {
          x: packedBinding(aligned, seen),
          indices: rowBinding(indices, count, made),
          y: rowsOf(y, made.start, made.count),
        },
        params: { n, packs, stride: rowBytes / 16, first: seen.start, count: seen.count },
        parts: [UNPACK_PARTS[dtype]],
        knobs: { BLOCK },
        grid: foldGrid(Math.ceil(n / BLOCK)),
        work: { bytes: made.count * (rowBytes + 16 * packs + 4) },
      });
    }
  }
  aligned.dispose();
  if (4 * packs === columns) return y;
  const exact = Tensor.empty(gpu, [count, columns]);
  restride(y, exact, limitBytes);
  y.dispose();
  return exact;
}

/** `y[indices[i]] += x[i]` into zeros, in a fixed order. Not recorded. */
function scatterAdd(x: Tensor, index: RowIndex): Tensor {
  if (index.inverse) return gather(x, index.inverse, index.rows);
  const { gpu } = x;
  const y = Tensor.empty(gpu, [index.rows, ...x.shape.slice(1)]);
  if (index.distinct < index.rows) gpu.clear(y.buffer);
  const { cols, pack } = packsOf(x.size / index.size);
  const n = index.distinct;
  for (const made of rowRanges(gpu, index.rows, [y])) {
    segmentsKernel.run(gpu, {
      buffers: {
        x: x.buffer,
        segments: index.segments!.buffer,
        y: rowBinding(y, index.rows, made),
      },
      params: { n, cols, first: made.start, count: made.count },
      knobs: { BLOCK, pack },
      grid: foldGrid(Math.ceil(n * cols / BLOCK)),
    });
  }
  return y;
}

/**
 * Picks rows: `y[i] = x[index[i]]`. The gradient adds up rows picked more than once, always in the
 * same order and is f32; int8 and int4 rows have none.
 *
 * @param x (R, …) of f32, or a matrix of bf16, f16, int8 or int4
 * @param index M row numbers below R
 * @returns (M, …), f32
 * @throws {TypeError} If the index was made for another number of rows, or the dtype is another
 */
export function gatherRows(x: Tensor, index: RowIndex): Tensor {
  const { shape, dtype } = x;
  if (index.rows !== x.dim(0)) {
    throw new TypeError(
      `Cannot pick rows of (${shape.join(", ")}): the index is for ${index.rows} rows`,
    );
  }
  if (isPackedDType(dtype) && shape.length === 2) {
    const y = gatherPacked(x, dtype, index.indices, index.size);
    return hasGradient(dtype) ? record(y, [x], (dy) => [scatterAdd(dy, index)]) : y;
  }
  if (dtype !== "f32") {
    throw new TypeError(
      `Cannot pick rows of a (${shape.join(", ")}) ${dtype} tensor: ` +
        "expected f32, or a matrix of bf16, f16, int8 or int4",
    );
  }
  const y = gather(x, index.indices, index.size);
  return record(y, [x], (dy) => [scatterAdd(dy, index)]);
}

/**
 * Looks embeddings up: row `ids[i]` of the weight for each token.
 *
 * @param weight (V, C), as {@link gatherRows} takes it
 * @param ids N numbers below V
 * @returns (N, C), f32
 * @throws {TypeError} If the index was made for another number of rows, or the dtype is another
 */
export function embedding(weight: Tensor, ids: RowIndex): Tensor {
  return gatherRows(weight, ids);
}
