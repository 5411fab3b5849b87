// Matrices of one width laid one below the other, and taken apart again: what lets one product do the work of several.

import { sizeOf, Tensor } from "../tensor.ts";

/** Kernels bind what starts at a multiple of so many values. */
export const VIEW_STEP = 64;

/**
 * The tensors' values one after the other, in memory of their own. Not differentiable.
 *
 * @param xs (R_i, …) or (R_i), of one element type of 32 bits and one trailing shape
 * @returns (ΣR_i, …)
 * @throws {TypeError} If the tensors do not belong together
 */
export function stackRows(xs: readonly Tensor[]): Tensor {
  const [{ gpu, dtype, shape }] = xs;
  const trailing = shape.slice(1);
  const rows = xs.reduce((sum, x) => {
    const fits = x.dtype === dtype && x.shape.slice(1).join() === trailing.join();
    if (fits && (dtype === "f32" || dtype === "i32" || dtype === "u32")) return sum + x.dim(0);
    throw new TypeError(
      `Cannot stack a (${x.shape.join(", ")}) ${x.dtype} tensor below (${
        shape.join(", ")
      }) ${dtype}`,
    );
  }, 0);
  const y = Tensor.empty(gpu, [rows, ...trailing], dtype);
  let at = 0;
  for (const x of xs) {
    if (x.size > 0) gpu.copy(x.buffer, 0, y.buffer, at, 4 * x.size);
    at += 4 * x.size;
  }
  return y;
}

/**
 * What {@link stackRows} put together: views of `y` where kernels can bind those, else copies; `null` where `wanted` is
 * false. Not differentiable.
 *
 * @param y (ΣR_i, …)
 * @param shapes of the parts
 */
export function unstackRows(
  y: Tensor,
  shapes: readonly (readonly number[])[],
  wanted: readonly boolean[],
): (Tensor | null)[] {
  let at = 0;
  return shapes.map((shape, i) => {
    const size = sizeOf(shape);
    const start = at;
    at += size;
    if (!wanted[i]) return null;
    if (start % VIEW_STEP === 0 && size > 0) return y.view(start, shape);
    const x = Tensor.empty(y.gpu, shape, y.dtype);
    if (size > 0) y.gpu.copy(y.buffer, 4 * start, x.buffer, 0, 4 * size);
    return x;
  });
}
