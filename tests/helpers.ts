// What op tests share: one device per file, seeded values, tolerances with their reasons, and `checkOp`,
// which tests an op both ways against a plain f64 reference.

import assert from "node:assert/strict";
import { backward, parameter } from "../lib/autograd.ts";
import { type Gpu, openDevice } from "../lib/gpu/device.ts";
import { readAll, sizeOf, Tensor, tidy } from "../lib/tensor.ts";

/** f32 arithmetic with sums of a few hundred terms. */
export const FORWARD = 1e-5;
/** Gradients: f32 kernels against central differences of an f64 reference. */
export const GRADIENT = 1e-3;

let shared: Promise<Gpu> | undefined;

/** The test device, opened once per process. */
export function testGpu(): Promise<Gpu> {
  return shared ??= openDevice({ budgetBytes: 2 ** 31, tuned: false });
}

/** Options every GPU test needs: the device is shared, so its resources outlive a test. */
export const GPU_TEST = { sanitizeResources: false, sanitizeOps: false } as const;

/** Seeded normal values (mulberry32 and Box–Muller). */
export function normals(n: number, seed: number, scale = 1): Float32Array {
  const next = uniform(seed);
  return Float32Array.from({ length: n }, () => {
    const r = Math.sqrt(-2 * Math.log(1 - next()));
    return scale * r * Math.cos(2 * Math.PI * next());
  });
}

/** Seeded uniform numbers in [0, 1). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Fails unless every |got - want| ≤ tolerance · max(|want|, scale), scale being the largest |want|
 * times 1 (so that elements near zero are judged against the tensor, not against themselves).
 */
export function assertClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
  what: string,
): void {
  assert.equal(got.length, want.length, `${what}: ${got.length} values, expected ${want.length}`);
  let scale = 1e-30;
  for (let i = 0; i < want.length; i++) scale = Math.max(scale, Math.abs(want[i]));
  let worst = -1;
  let at = 0;
  for (let i = 0; i < want.length; i++) {
    const error = Number.isFinite(got[i]) ? Math.abs(got[i] - want[i]) : Infinity;
    if (error > worst) [worst, at] = [error, i];
  }
  assert.ok(
    worst <= tolerance * scale,
    `${what}: largest error ${worst} (relative to the largest value ${worst / scale}, allowed ` +
      `${tolerance}) at ${at}: got ${got[at]}, expected ${want[at]}`,
  );
}

/** One input of an op under test. */
export interface OpInput {
  name: string;
  shape: readonly number[];
  /** Values; seeded normals if absent. */
  data?: Float32Array | Int32Array | Uint32Array;
  /** False for index inputs and others without a gradient. Default: true. */
  differentiable?: boolean;
}

/** An op and its reference. */
export interface OpCase {
  name: string;
  inputs: OpInput[];
  op: (inputs: Tensor[]) => Tensor;
  /** Plain f64 forward: inputs in order → output values. */
  reference: (inputs: Float64Array[]) => ArrayLike<number>;
  seed?: number;
  forwardTolerance?: number;
  gradientTolerance?: number;
  /** Elements per input whose gradient is checked (evenly spread). Default: 40. */
  samples?: number;
}

/** Checks forward values, then gradients against central differences of the reference. */
export async function checkOp(gpu: Gpu, test: OpCase): Promise<void> {
  const seed = test.seed ?? 1;
  const host = test.inputs.map((input, i) =>
    input.data ?? normals(sizeOf(input.shape), seed + 17 * i)
  );
  const exact = host.map((h) => Float64Array.from(h));
  const want = test.reference(exact);

  const tensors = test.inputs.map((input, i) => {
    const t = Tensor.from(gpu, host[i], input.shape).keep();
    return input.differentiable === false ? t : parameter(t);
  });
  const y = test.op(tensors);
  const upstream = normals(y.size, seed + 991);
  const [values] = await readAll([y]);
  assertClose(values, want, test.forwardTolerance ?? FORWARD, `${test.name} forward`);

  const grads = tidy(() => backward(y, { seeds: [Tensor.from(gpu, upstream, y.shape)] }));
  for (const [i, input] of test.inputs.entries()) {
    if (input.differentiable === false) continue;
    const grad = grads.get(tensors[i]);
    assert.ok(grad, `${test.name}: no gradient for ${input.name}`);
    const got = await grad.floats();
    const n = exact[i].length;
    const picks = spread(n, test.samples ?? 40);
    const differences = picks.map((j) => {
      const keep = exact[i][j];
      const h = 1e-4 * Math.max(1, Math.abs(keep));
      const loss = (v: number) => {
        exact[i][j] = v;
        const out = test.reference(exact);
        let sum = 0;
        for (let k = 0; k < out.length; k++) sum += out[k] * upstream[k];
        return sum;
      };
      const slope = (loss(keep + h) - loss(keep - h)) / (2 * h);
      exact[i][j] = keep;
      return slope;
    });
    const tolerance = test.gradientTolerance ?? GRADIENT;
    assertClose(picks.map((j) => got[j]), differences, tolerance, `${test.name} d${input.name}`);
  }
  for (const t of [...tensors, ...grads.values()]) t.dispose();
  y.dispose();
}

function spread(n: number, count: number): number[] {
  if (n <= count) return Array.from({ length: n }, (_, i) => i);
  return Array.from({ length: count }, (_, i) => Math.floor((i * (n - 1)) / (count - 1)));
}
