// Rows of two tensors brought together under their numbers: the inverse of two gathers.

import code from "../../kernels/merge_rows.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowBinding, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { gatherRows } from "./gather_rows.ts";
import type { RowIndex } from "./row_index.ts";

const kernel = new Kernel("merge_rows", { main: code, knobs: ["BLOCK", "pack"] });

const BLOCK = 64;
const disjoint = new WeakMap<RowIndex, WeakSet<RowIndex>>();

/**
 * Puts rows where their numbers say: row `index_k[i]` of the result is row `i` of `x_k`; rows that
 * nobody names are zero. Either tensor may have no rows.
 *
 * @param xs (N0, …) and (N1, …)
 * @param indices for each, its rows' numbers below N; no number occurs twice
 * @param count N
 * @returns (N, …)
 * @throws {TypeError} If shapes and indices do not belong together
 * @throws {RangeError} If a row is named twice
 */
export function mergeRows(
  xs: readonly [Tensor, Tensor],
  indices: readonly [RowIndex, RowIndex],
  count: number,
): Tensor {
  const trailing = xs[0].shape.slice(1);
  xs.forEach((x, k) => {
    const fits = x.dim(0) === indices[k].size && indices[k].rows === count;
    if (fits && x.shape.slice(1).join() === trailing.join()) return;
    throw new TypeError(
      `Cannot merge (${xs[0].shape.join(", ")}) and (${
        xs[1].shape.join(", ")
      }) into ${count} rows ` +
        `with ${indices[k].size} numbers below ${indices[k].rows}`,
    );
  });
  checkDisjoint(indices[0], indices[1]);
  const { gpu } = xs[0];
  const y = Tensor.empty(gpu, [count, ...trailing]);
  const values = trailing.reduce((n, d) => n * d, 1);
  const wide = values % 4 === 0;
  const cols = wide ? values / 4 : values;
  for (const made of values === 0 ? [] : rowRanges(gpu, count, [y])) {
    const n = made.count * cols;
    kernel.run(gpu, {
      buffers: {
        x0: xs[0].buffer,
        x1: xs[1].buffer,
        from0: rowBinding(indices[0].inverse!, count, made),
        from1: rowBinding(indices[1].inverse!, count, made),
        y: rowBinding(y, count, made),
      },
      params: { n, cols },
      knobs: { BLOCK, pack: wide ? "vec4f" : "f32" },
      grid: foldGrid(Math.ceil(n / BLOCK)),
    });
  }
  return record(
    y,
    xs,
    (dy, needs) => indices.map((index, k) => needs[k] ? gatherRows(dy, index) : null),
  );
}

function checkDisjoint(a: RowIndex, b: RowIndex): void {
  if (disjoint.get(a)?.has(b)) return;
  const seen = new Set<number>();
  for (const id of [...a.host, ...b.host]) {
    if (seen.has(id)) throw new RangeError(`Cannot merge rows: row ${id} is given twice`);
    seen.add(id);
  }
  const known = disjoint.get(a) ?? new WeakSet();
  disjoint.set(a, known.add(b));
}
