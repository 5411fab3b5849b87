// What the engines are compared on: inputs, and what their outputs must be. Every case knows its answers from the
// host, in f64: sampled entries of products, all entries of softmax and normalization, and for the block the loss
// and the slope of the loss along a direction of every input.

import { normals } from "../helpers.ts";
import { BLOCK_INPUTS, type BlockShape, blockSlopes, DEMO_BLOCK } from "./peers_block.ts";

/** Values and shape of an input. */
export interface HostArray {
  shape: readonly number[];
  data: Float32Array;
}

/** Which operands of a product are stored transposed. */
export type Layout = "NN" | "NT" | "TN";

/** What is computed. */
export type Work =
  | { kind: "matmul"; layout: Layout }
  | { kind: "softmax" }
  | { kind: "rms_norm" }
  | { kind: "block"; shape: BlockShape };

/** One row of the comparison. */
export interface Case {
  name: string;
  /** The mean that it counts in. */
  group: "matmul" | "norm" | "block";
  work: Work;
  /** In the order that the engines take them: see their `prepare`. */
  inputs: HostArray[];
  /** Arithmetic that cannot be avoided, counted as usual: a multiply-add is two. */
  flop: number;
  /** What is wrong with the outputs, or undefined. */
  check: (outputs: Float32Array[]) => string | undefined;
}

/** A case to be: inputs and answers take memory and time, so they are made one by one. */
export interface CaseMaker {
  group: Case["group"];
  make: () => Case;
}

const SQUARES = [256, 512, 1024].map((n) => [n, n, n] as const);
// Rows × columns × inner size: tokens, outputs and inputs of the demo model's layers, in all three layouts.
const TRAINING = [
  [512, 192, 192],
  [1000, 288, 96],
  [1000, 96, 288],
  [96, 96, 1000],
  [737, 97, 96],
] as const;
const ROWS = [[1024, 128], [1024, 512], [4096, 96]] as const;

/** Sums of up to 1024 products in f32, relative to the size of a typical sum. */
const TOLERANCE = 1e-4;
/** Gradients of the block: some twenty steps of f32. */
const BLOCK_TOLERANCE = 1e-3;

/** All cases, or a few small ones. */
export function cases(quick: boolean): CaseMaker[] {
  const shapes = quick ? [SQUARES[0], TRAINING[0], TRAINING[4]] : [...SQUARES, ...TRAINING];
  const rows = quick ? ROWS.slice(0, 1) : ROWS;
  const blocks = quick ? [true] : [true, false];
  const all = {
    matmul: shapes.flatMap((shape) =>
      (["NN", "NT", "TN"] as const).map((layout) => () => matmulCase(shape, layout))
    ),
    norm: [softmaxCase, rmsNormCase].flatMap((made) => rows.map(([r, c]) => () => made(r, c))),
    block: blocks.map((causal) => () => blockCase({ ...DEMO_BLOCK, causal })),
  };
  return (Object.keys(all) as (keyof typeof all)[]).flatMap((group) =>
    all[group].map((make) => ({ group, make }))
  );
}

/** A product of (rows, inner) and (inner, columns), each stored as the layout says; 256 entries are checked. */
export function matmulCase(
  [rows, columns, inner]: readonly [number, number, number],
  layout: Layout,
): Case {
  const [ta, tb] = [layout[0] === "T", layout[1] === "T"];
  const a = normals(rows * inner, 1);
  const b = normals(inner * columns, 2);
  const entry = (m: number, n: number) => {
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      sum += a[ta ? k * rows + m : m * inner + k] * b[tb ? n * inner + k : k * columns + n];
    }
    return sum;
  };
  const picks = [[0, 0], [rows - 1, columns - 1], [rows - 1, 0], [0, columns - 1]];
  for (let i = 0; i < 252; i++) picks.push([(i * 7919) % rows, (i * 104729) % columns]);
  const expected = picks.map(([m, n]) => entry(m, n));
  return {
    name: `${layout} ${rows}×${columns}×${inner}`,
    group: "matmul",
    work: { kind: "matmul", layout },
    inputs: [
      { shape: ta ? [inner, rows] : [rows, inner], data: a },
      { shape: tb ? [columns, inner] : [inner, columns], data: b },
    ],
    flop: 2 * rows * columns * inner,
    check: ([y]) => {
      if (y.length !== rows * columns) return `${y.length} values, expected ${rows * columns}`;
      const got = picks.map(([m, n]) => y[m * columns + n]);
      return difference(got, expected, TOLERANCE * Math.sqrt(inner), "y");
    },
  };
}

/** Softmax of (rows, columns) and its gradient. */
export function softmaxCase(rows: number, columns: number): Case {
  const x = normals(rows * columns, 3, 2);
  const dy = normals(rows * columns, 4);
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += columns) {
    let largest = -Infinity;
    for (let c = 0; c < columns; c++) largest = Math.max(largest, x[at + c]);
    let [total, dot] = [0, 0];
    for (let c = 0; c < columns; c++) total += y[at + c] = Math.exp(x[at + c] - largest);
    for (let c = 0; c < columns; c++) dot += (y[at + c] /= total) * dy[at + c];
    for (let c = 0; c < columns; c++) dx[at + c] = y[at + c] * (dy[at + c] - dot);
  }
  const shape = [rows, columns];
  return {
    name: `softmax ${rows}×${columns}`,
    group: "norm",
    work: { kind: "softmax" },
    inputs: [{ shape, data: x }, { shape, data: dy }],
    flop: 9 * x.length, // maximum, difference, exponential, sum, quotient; two products, a sum, a difference
    check: (got) => compareAll(got, [y, dx], ["y", "dx"], TOLERANCE),
  };
}

/** RMSNorm of (rows, columns) and its gradients. */
export function rmsNormCase(rows: number, columns: number): Case {
  const x = normals(rows * columns, 5);
  const weight = normals(columns, 6);
  const dy = normals(rows * columns, 7);
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  const dweight = new Float64Array(columns);
  for (let at = 0; at < x.length; at += columns) {
    let [squares, dot] = [0, 0];
    for (let c = 0; c < columns; c++) squares += x[at + c] ** 2;
    const inverse = 1 / Math.sqrt(squares / columns + 1e-6);
    for (let c = 0; c < columns; c++) {
      const normal = x[at + c] * inverse;
      y[at + c] = normal * weight[c];
      dweight[c] += normal * dy[at + c];
      dot += dy[at + c] * weight[c] * normal / columns;
    }
    for (let c = 0; c < columns; c++) {
      dx[at + c] = inverse * (dy[at + c] * weight[c] - x[at + c] * inverse * dot);
    }
  }
  const shape = [rows, columns];
  return {
    name: `RMSNorm ${rows}×${columns}`,
    group: "norm",
    work: { kind: "rms_norm" },
    inputs: [{ shape, data: x }, { shape: [columns], data: weight }, { shape, data: dy }],
    flop: 13 * x.length, // square, sum, two products; dx: four products, a sum, a difference; dweight: two, a sum
    check: (got) => compareAll(got, [y, dx, dweight], ["y", "dx", "dweight"], TOLERANCE),
  };
}

/** A transformer block, its loss and all gradients. */
export function blockCase(shape: BlockShape): Case {
  const { inputs, loss, slopes, directions, flop } = blockSlopes(shape);
  let agreed: Float32Array[] | undefined;
  return {
    name: `block ${shape.samples}×${shape.length}×${shape.width} ${
      shape.causal ? "causal" : "full"
    }`,
    group: "block",
    work: { kind: "block", shape },
    inputs,
    flop,
    check: ([value, ...grads]) => {
      if (!(Math.abs(value[0] - loss.value) <= TOLERANCE * loss.scale)) {
        return `the loss is ${value[0]}, expected ${loss.value}`;
      }
      for (const [i, name] of BLOCK_INPUTS.entries()) {
        const grad = grads[i];
        if (grad?.length !== inputs[i].data.length) return `d${name} has ${grad?.length} values`;
        let [slope, square] = [0, 0];
        grad.forEach((g, j) => {
          slope += g * directions[i][j];
          square += g * g;
        });
        if (!(Math.abs(slope - slopes[i]) <= BLOCK_TOLERANCE * Math.sqrt(square))) {
          return `the slope along d${name} is ${slope}, expected ${slopes[i]}`;
        }
      }
      agreed ??= grads; // the engines are also compared with one another, entry by entry
      return compareAll(grads, agreed, BLOCK_INPUTS.map((name) => `d${name}`), BLOCK_TOLERANCE);
    },
  };
}

function compareAll(
  got: readonly Float32Array[],
  expected: readonly ArrayLike<number>[],
  names: readonly string[],
  tolerance: number,
): string | undefined {
  for (const [i, name] of names.entries()) {
    let largest = 0;
    for (let j = 0; j < expected[i].length; j++) {
      largest = Math.max(largest, Math.abs(expected[i][j]));
    }
    const wrong = difference(got[i], expected[i], tolerance * largest, name);
    if (wrong) return wrong;
  }
}

function difference(
  got: ArrayLike<number> | undefined,
  expected: ArrayLike<number>,
  tolerance: number,
  name: string,
): string | undefined {
  if (got?.length !== expected.length) {
    return `${name} has ${got?.length} values, expected ${expected.length}`;
  }
  for (let i = 0; i < expected.length; i++) {
    if (Math.abs(got[i] - expected[i]) <= tolerance) continue;
    return `${name}[${i}] is ${got[i]}, expected ${expected[i]}`;
  }
}
