// How one kernel family is judged on the adapter at hand: values against a plain f64 reference, gradients
// against that reference's slopes, in every variant the adapter can run.

import { backward, parameter } from "../autograd.ts";
import { Draws } from "../data/draws.ts";
import { Gpu } from "../gpu/device.ts";
import { readAll, sizeOf, Tensor, tidy } from "../tensor.ts";
import type { Row } from "./compare.ts";

/** f32 arithmetic with sums of a few hundred terms, relative to the largest value. */
export const FORWARD = 1e-5;
/** A slope along a random direction, relative to the length of the gradient. */
export const GRADIENT = 1e-4;

const DIRECTIONS = 2; // random directions per input; a single wrong element shows in each
const STEP = 1e-4; // of central differences in f64: their own error is about 1e-8

/** One input of an op. */
export interface FamilyInput {
  shape: readonly number[];
  /** Values; seeded normals if absent. */
  data?: Float32Array;
  /** No gradient is asked for. */
  fixed?: boolean;
}

/** An op on small inputs, and what it should give. */
export interface FamilyCase {
  /** Which shape or option of the family this is. */
  name: string;
  inputs: FamilyInput[];
  op(inputs: Tensor[], gpu: Gpu): Tensor;
  /** The same in f64: values of the inputs in order → values of the output. */
  reference(inputs: Float64Array[]): ArrayLike<number>;
}

/** Seeded normal values. */
export function normals(n: number, ...key: (string | number)[]): Float32Array {
  const draws = new Draws("families", ...key);
  return Float32Array.from({ length: n }, () => draws.normal());
}

/** The row of a comparison: the largest error and its tolerance, both relative to the largest value. */
export function relativeRow(
  family: string,
  tensor: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
): Row {
  const row = { case: family, tensor, tolerance };
  if (got.length !== want.length) {
    const note = `got ${got.length} elements, expected ${want.length}`;
    return { ...row, error: Infinity, ok: false, note };
  }
  let [scale, worst, at] = [1e-30, 0, 0];
  for (let i = 0; i < want.length; i++) scale = Math.max(scale, Math.abs(want[i]));
  for (let i = 0; i < want.length; i++) {
    const error = Number.isFinite(got[i]) ? Math.abs(got[i] - want[i]) : Infinity;
    if (error > worst) [worst, at] = [error, i];
  }
  const error = worst / scale;
  if (error <= tolerance) return { ...row, error, ok: true };
  return { ...row, error, ok: false, note: `element ${at}: got ${got[at]}, expected ${want[at]}` };
}

/**
 * The device under each name that chooses kernels of its own: as a GPU (several threads per row, tiles in
 * workgroup memory), as software (one thread per row), and as software with 8-lane subgroups where it has them.
 */
export function variantsOf(gpu: Gpu): [name: string, gpu: Gpu][] {
  const as = (software: boolean, lanes: number) =>
    new Gpu(gpu.device, { ...gpu.adapter, software }, lanes, gpu.subgroupLine, {});
  const variants: [string, Gpu][] = [["gpu", as(false, 0)], ["software", as(true, 0)]];
  if (gpu.subgroupSize === 8) variants.push(["8 lanes", as(true, 8)]);
  return variants;
}

/** Checks the output of one case, then its gradient for every input that has one. */
export async function checkCase(
  gpu: Gpu,
  family: string,
  variant: string,
  test: FamilyCase,
): Promise<Row[]> {
  const host = test.inputs.map(({ shape, data }, i) =>
    data ?? normals(sizeOf(shape), family, test.name, i)
  );
  const exact = host.map((values) => Float64Array.from(values));
  const want = test.reference(exact);
  const upstream = normals(want.length, family, test.name, "upstream");

  const inputs = host.map((values, i) => Tensor.from(gpu, values, test.inputs[i].shape).keep());
  const asked = inputs.filter((_, i) => !test.inputs[i].fixed);
  for (const x of asked) parameter(x);
  const results = tidy(() => {
    const y = test.op(inputs, gpu);
    if (asked.length === 0) return [y];
    const grads = backward(y, { seeds: [Tensor.from(gpu, upstream, y.shape)] });
    return [y, ...asked.map((x) => grads.get(x)!)];
  });
  const [values, ...grads] = await readAll(results);
  for (const x of [...inputs, ...results]) x.dispose();

  const what = [test.name, variant].filter(Boolean).join(", ");
  const rows = [relativeRow(family, what, values, want, FORWARD)];
  for (const [k, grad] of grads.entries()) {
    const i = inputs.indexOf(asked[k]);
    rows.push(slopeRow(family, `${what}: gradient ${i + 1}`, { test, exact, upstream, i, grad }));
  }
  return rows;
}

interface Slope {
  test: FamilyCase;
  exact: Float64Array[];
  upstream: Float32Array;
  /** The input that moves. */
  i: number;
  /** Its gradient, as the kernels give it. */
  grad: ArrayLike<number>;
}

/** Compares `Σ grad · direction` with the reference's slope along random directions. */
function slopeRow(family: string, tensor: string, { test, exact, upstream, i, grad }: Slope): Row {
  const x = exact[i];
  const kept = x.slice();
  const loss = (direction: Float32Array, step: number) => {
    for (let j = 0; j < x.length; j++) x[j] = kept[j] + step * direction[j];
    const y = test.reference(exact);
    let sum = 0;
    for (let j = 0; j < y.length; j++) sum += y[j] * upstream[j];
    return sum;
  };
  const [got, want]: [number[], number[]] = [[], []];
  for (let n = 0; n < DIRECTIONS; n++) {
    const direction = normals(x.length, family, test.name, "direction", i, n);
    let [sum, squares] = [0, 1e-30];
    for (let j = 0; j < x.length; j++) {
      sum += grad[j] * direction[j];
      squares += grad[j] * grad[j];
    }
    const length = Math.sqrt(squares);
    got.push(sum / length);
    want.push((loss(direction, STEP) - loss(direction, -STEP)) / (2 * STEP * length));
    x.set(kept);
  }
  const worst = Math.max(...got.map((g, n) => Math.abs(g - want[n])));
  const error = Number.isFinite(worst) ? worst : Infinity;
  const row = { case: family, tensor, error, tolerance: GRADIENT, ok: error <= GRADIENT };
  if (row.ok) return row;
  return { ...row, note: `slopes ${got.join(", ")}, expected ${want.join(", ")}` };
}
