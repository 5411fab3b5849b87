// Small cases of the fused ops: their references are those of the plain ops they stand for.

import { reshape } from "../autograd.ts";
import { addRmsNorm } from "../ops/add_rms_norm.ts";
import { headNormRope, joinHeads } from "../ops/head_norm_rope.ts";
import { mergeRows } from "../ops/merge_rows.ts";
import { mul } from "../ops/mul.ts";
import { ropeTables } from "../ops/rope.ts";
import { rowIndex } from "../ops/row_index.ts";
import { stackedLinear } from "../ops/stacked_linear.ts";
import { swigluHalves } from "../ops/swiglu_halves.ts";
import type { Tensor } from "../tensor.ts";
import type { FamilyCase, FamilyInput } from "./family_check.ts";
import { matmulReference, rmsNormReference, ropeReference, siluOf } from "./family_references.ts";

const EPS = 1e-6;
const THETA = 1e4;
const of = (...shape: number[]): FamilyInput => ({ shape });

/** Two tensors of rows, one below the other. */
function below(x: Tensor, y: Tensor): Tensor {
  const [n, m] = [x.dim(0), y.dim(0)];
  const numbers = (count: number, first: number) =>
    rowIndex(x.gpu, Int32Array.from({ length: count }, (_, i) => first + i), n + m);
  return mergeRows([x, y], [numbers(n, 0), numbers(m, n)], n + m);
}

/** Columns `first … first + count` of rows of `width`. */
function columnsOf(x: Float64Array, width: number, first: number, count: number): Float64Array {
  return x.filter((_, i) => i % width >= first && i % width < first + count);
}

/** Heads of a stacked projection: queries, keys and values one below the other. */
function headCase(heads: number, keyHeads: number, size: number): FamilyCase {
  const positions = [0, 1, 2, 2, 2, 17, 40];
  const tokens = positions.length;
  const width = (heads + 2 * keyHeads) * size;
  return {
    name: `${heads} and ${keyHeads} heads of ${size}`,
    inputs: [of(tokens, width), of(size), of(size)],
    op: ([x, qNorm, kNorm], gpu) => {
      const tables = ropeTables(gpu, positions, size, THETA);
      const sizes = { heads, keyHeads, eps: EPS };
      const { q, k, v } = headNormRope(x, qNorm, kNorm, tables, sizes);
      const [a, b, c] = [q, k, v].map((t) => reshape(t, [t.size / size, size]));
      return below(below(a, b), c);
    },
    reference: ([x, qNorm, kNorm]) => {
      const part = (first: number, count: number) =>
        columnsOf(x, width, first * size, count * size);
      const turned = (rows: Float64Array, weight: Float64Array, count: number) =>
        ropeReference(
          Float64Array.from(rmsNormReference([rows, weight], EPS)),
          positions,
          [count, size],
          THETA,
        );
      return [
        ...turned(part(0, heads), qNorm, heads),
        ...turned(part(heads, keyHeads), kNorm, keyHeads),
        ...part(heads + keyHeads, keyHeads),
      ];
    },
  };
}

/** Heads of two projections in one sequence. */
function joinedCase(size: number): FamilyCase {
  const places = [[4, 0, 3], [1, 2]];
  const width = 3 * size;
  return {
    name: `joined heads of ${size}`,
    inputs: [of(3, width), of(2, width), of(size), of(size)],
    op: ([x0, x1, qNorm, kNorm], gpu) => {
      const parts = [x0, x1].map((x, i) => ({
        x,
        qNorm,
        kNorm,
        tables: ropeTables(gpu, places[i], size, THETA),
        rows: rowIndex(gpu, Int32Array.from(places[i]), 5),
      }));
      const [{ q, k, v }] = joinHeads(parts, 5, { heads: 1, keyHeads: 1, eps: EPS });
      const [a, b, c] = [q, k, v].map((t) => reshape(t, [5, size]));
      return below(below(a, b), c);
    },
    reference: ([x0, x1, qNorm, kNorm]) => {
      const rows = new Float64Array(5 * width);
      [x0, x1].forEach((x, i) =>
        places[i].forEach((place, j) => {
          rows.set(x.subarray(j * width, (j + 1) * width), place * width);
        })
      );
      const turned = (first: number, weight: Float64Array) => {
        const part = columnsOf(rows, width, first, size);
        const normed = Float64Array.from(rmsNormReference([part, weight], EPS));
        return ropeReference(normed, [0, 1, 2, 3, 4], [1, size], THETA);
      };
      const v = columnsOf(rows, width, 2 * size, size);
      return [...turned(0, qNorm), ...turned(size, kNorm), ...v];
    },
  };
}

/** Three linear maps of one input. */
function stackedCase(rows: number, inner: number, outputs: [number, number]): FamilyCase {
  const [first, second] = outputs;
  return {
    name: `${rows}x${inner} to ${outputs.join(" and ")}`,
    inputs: [of(rows, inner), of(first, inner), of(second, inner), of(first), of(second)],
    op: ([x, a, b, p, q]) => stackedLinear(x, [a, b], [p, q]),
    reference: ([x, a, b, p, q]) => {
      const columns = first + second;
      const [weight, bias] = [[...a, ...b], [...p, ...q]];
      return matmulReference([x, Float64Array.from(weight)], [rows, columns, inner], [false, true])
        .map((v, i) => v + bias[i % columns]);
    },
  };
}

/** A gate and what it lets through, side by side. */
function halvesCase(rows: number, cols: number): FamilyCase {
  return {
    name: `halves of ${cols}`,
    inputs: [of(rows, 2 * cols)],
    op: ([x]) => swigluHalves(x),
    reference: ([x]) => {
      const up = columnsOf(x, 2 * cols, cols, cols);
      return columnsOf(x, 2 * cols, 0, cols).map((gate, i) => siluOf(gate) * up[i]);
    },
  };
}

/** A sum and its norm, multiplied so that both pass a gradient on. */
function sumCase(rows: number, cols: number): FamilyCase {
  return {
    name: `sum and RMS of ${cols}`,
    inputs: [of(rows, cols), of(rows, cols), of(cols)],
    op: ([x, branch, weight]) => {
      const { sum, normed } = addRmsNorm(x, branch, weight, EPS);
      return mul(sum, normed);
    },
    reference: ([x, branch, weight]) => {
      const sum = x.map((v, i) => v + branch[i]);
      return rmsNormReference([sum, weight], EPS).map((v, i) => v * sum[i]);
    },
  };
}

/** Cases of the fused ops. */
export const FUSED_CASES: FamilyCase[] = [
  headCase(3, 1, 6),
  headCase(2, 2, 16),
  joinedCase(8),
  stackedCase(37, 24, [18, 7]),
  halvesCase(5, 7),
  halvesCase(9, 12),
  sumCase(9, 13),
  sumCase(9, 64),
];
