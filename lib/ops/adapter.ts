// Low-rank additions to weights (Hu et al. 2021, LoRA). A weight that carries one acts as W + s·B·A wherever a linear
// map multiplies by it, while W itself, packed or not, stays as it is. The sum is never made: the addition goes
// through `rank` numbers per row.

import { accumulate } from "../gpu/accumulate.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { product } from "./matmul_launch.ts";
import { scale } from "./unary.ts";

/** What a weight (out, in) carries. */
export interface Adapter {
  /** (rank, in) f32 */
  a: Tensor;
  /** (out, rank) f32 */
  b: Tensor;
  /** s, usually α/rank. */
  scale: number;
}

const carried = new WeakMap<Tensor, Adapter>();

/**
 * Makes a weight carry an adapter, in place of one it had; without one, it carries none from now on.
 *
 * @param weight (out, in) of any dtype that linear maps take
 * @throws {TypeError} If the shapes do not belong together, or a or b is not f32
 */
export function setAdapter(weight: Tensor, adapter: Adapter | undefined): void {
  if (!adapter) {
    carried.delete(weight);
    return;
  }
  const { a, b } = adapter;
  const [outputs, inputs] = weight.shape;
  const rank = a.shape[0];
  const fits = weight.shape.length === 2 && a.shape.join() === `${rank},${inputs}` &&
    b.shape.join() === `${outputs},${rank}` && rank >= 1;
  if (!fits || a.dtype !== "f32" || b.dtype !== "f32") {
    throw new TypeError(
      `Cannot add (${b.shape.join(", ")}) ${b.dtype} times (${a.shape.join(", ")}) ${a.dtype} to ` +
        `(${weight.shape.join(", ")}) weights: expected f32 (out, rank) and (rank, in)`,
    );
  }
  carried.set(weight, adapter);
}

/** The adapter that a weight carries. Other handles on its memory (see `alias`) carry none. */
export function adapterOf(weight: Tensor): Adapter | undefined {
  return carried.get(weight);
}

/** Rows in the narrow space: `h = s · x Aᵀ`, (rows, rank). Not recorded. */
export function narrowed(x: Tensor, { a, scale: factor }: Adapter): Tensor {
  const [rank, inner] = a.shape;
  const rows = sizeOf(x.shape) / inner;
  const layout = { transposeA: false, transposeB: true };
  const raw = product(x, a, { rows, columns: rank, inner, ...layout });
  if (factor === 1) return raw;
  const h = scale(raw, factor);
  raw.dispose();
  return h;
}

/** `y + h Bᵀ`, in the memory of `y`, which is used up. Not recorded. */
export function widen(y: Tensor, h: Tensor, { b }: Adapter): Tensor {
  const [columns, rank] = b.shape;
  const layout = { transposeA: false, transposeB: true };
  const added = product(h, b, { rows: h.dim(0), columns, inner: rank, ...layout });
  return accumulate(y, added);
}

/** Gradients of {@link narrowed} and {@link widen}; those that nobody needs are null. */
export interface AdapterGradients {
  /** (rows, in) */
  dx: Tensor | null;
  da: Tensor | null;
  db: Tensor | null;
}

/**
 * Gradients of `s (x Aᵀ) Bᵀ`: with `dh = s · dy B`, `dx = dh A`, `dA = dhᵀ x` and `dB = dyᵀ h`.
 *
 * @param dy (rows, out)
 * @param x (rows, in)
 * @param h what {@link narrowed} gave
 * @param needs whose gradients are wanted: x, a, b
 */
export function adapterGradients(
  dy: Tensor,
  x: Tensor,
  h: Tensor,
  { a, b, scale: factor }: Adapter,
  needs: readonly boolean[],
): AdapterGradients {
  const [[rank, inner], columns] = [a.shape, b.dim(0)];
  const rows = h.dim(0);
  const plain = { transposeA: false, transposeB: false };
  const turned = { transposeA: true, transposeB: false };
  const db = needs[2]
    ? product(dy, h, { rows: columns, columns: rank, inner: rows, ...turned })
    : null;
  if (!needs[0] && !needs[1]) return { dx: null, da: null, db };
  const raw = product(dy, b, { rows, columns: rank, inner: columns, ...plain });
  const dh = scale(raw, factor);
  raw.dispose();
  const dx = needs[0] ? product(dh, a, { rows, columns: inner, inner: rank, ...plain }) : null;
  const da = needs[1]
    ? product(dh, x, { rows: rank, columns: inner, inner: rows, ...turned })
    : null;
  dh.dispose();
  return { dx, da, db };
}
