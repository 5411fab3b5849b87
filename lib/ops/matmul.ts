// Product of two matrices, either of them read as stored or transposed.

import { record } from "../autograd.ts";
import { Tensor } from "../tensor.ts";
import { product } from "./matmul_launch.ts";

/** Options of {@link matmul}. */
export interface MatmulOptions {
  /** `a` is stored (K, M). Default: false. */
  transposeA?: boolean;
  /** `b` is stored (N, K). Default: false. */
  transposeB?: boolean;
}

/**
 * Matrix product `y[m, n] = Σ_k a[m, k] b[k, n]`, summed in f32 in an order that depends on the shapes only.
 *
 * Gradients: `da = dy bᵀ`, `db = aᵀ dy`, each stored as its operand is.
 *
 * @param a (M, K), or (K, M) with `transposeA`
 * @param b (K, N), or (N, K) with `transposeB`
 * @returns (M, N)
 * @throws {TypeError} If an operand is not an f32 matrix or the inner sizes differ
 * @throws {RangeError} If an element index would not fit 32 bits
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  const [rows, inner] = sides(a, transposeA);
  const [innerB, columns] = sides(b, transposeB);
  if (inner !== innerB) {
    throw new TypeError(
      `Cannot multiply (${rows}, ${inner}) by (${innerB}, ${columns}): ` +
        `inner sizes ${inner} and ${innerB} differ`,
    );
  }
  const y = product(a, b, { rows, columns, inner, transposeA, transposeB });
  return record(y, [a, b], (dy, needs) => {
    // An operand stored transposed gets its gradient transposed: swap the factors.
    const da = !needs[0] ? null : transposeA
      ? product(b, dy, {
        rows: inner,
        columns: rows,
        inner: columns,
        transposeA: transposeB,
        transposeB: true,
      })
      : product(dy, b, {
        rows,
        columns: inner,
        inner: columns,
        transposeA: false,
        transposeB: !transposeB,
      });
    const db = !needs[1] ? null : transposeB
      ? product(dy, a, {
        rows: columns,
        columns: inner,
        inner: rows,
        transposeA: true,
        transposeB: transposeA,
      })
      : product(a, dy, {
        rows: inner,
        columns,
        inner: rows,
        transposeA: !transposeA,
        transposeB: false,
      });
    return [da, db];
  });
}

function sides(x: Tensor, transposed: boolean): [number, number] {
  if (x.shape.length !== 2 || x.dtype !== "f32") {
    throw new TypeError(
      `Cannot multiply a (${x.shape.join(", ")}) ${x.dtype} tensor: operands are f32 matrices`,
    );
  }
  const [m, k] = x.shape;
  return transposed ? [k, m] : [m, k];
}
