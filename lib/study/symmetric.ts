// Small dense symmetric matrices in f64: Cholesky solving and Jacobi eigenvalues. For feature widths
// of up to some hundreds; both are O(d³) on one core.

/**
 * Cholesky factor L with `A = L Lᵀ`, written over the lower triangle of `a`.
 *
 * @param a (d, d) row-major, symmetric positive definite; only its lower triangle is read
 * @throws {RangeError} If a pivot is not positive: A is not positive definite
 */
export function cholesky(a: Float64Array, d: number): Float64Array {
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * d + j];
      for (let k = 0; k < j; k++) sum -= a[i * d + k] * a[j * d + k];
      if (i !== j) a[i * d + j] = sum / a[j * d + j];
      else if (sum > 0) a[i * d + i] = Math.sqrt(sum);
      else throw new RangeError(`Cannot factor a (${d}, ${d}) matrix: pivot ${i} is ${sum}`);
    }
  }
  return a;
}

/**
 * Solves `L Lᵀ X = B` in place.
 *
 * @param l (d, d) factor from {@linkcode cholesky}
 * @param b (d, k) right-hand sides, overwritten by the solution
 */
export function choleskySolve(l: Float64Array, d: number, b: Float64Array, k: number): void {
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < i; j++) {
      const factor = l[i * d + j];
      for (let c = 0; c < k; c++) b[i * k + c] -= factor * b[j * k + c];
    }
    for (let c = 0; c < k; c++) b[i * k + c] /= l[i * d + i];
  }
  for (let i = d - 1; i >= 0; i--) {
    for (let j = i + 1; j < d; j++) {
      const factor = l[j * d + i];
      for (let c = 0; c < k; c++) b[i * k + c] -= factor * b[j * k + c];
    }
    for (let c = 0; c < k; c++) b[i * k + c] /= l[i * d + i];
  }
}

/**
 * Eigenvalues of a symmetric matrix in descending order, by cyclic Jacobi rotations until the
 * off-diagonal part is below 1e-14 of the whole (Golub & Van Loan 2013, §8.5).
 *
 * @param matrix (d, d) row-major; its upper triangle is taken to mirror the lower
 * @throws {RangeError} If an entry is not finite
 */
export function symmetricEigenvalues(matrix: Float64Array, d: number): Float64Array {
  const a = matrix.slice();
  let whole = 0;
  for (const x of a) whole += x * x;
  if (!Number.isFinite(whole)) {
    throw new RangeError(`Cannot take eigenvalues of a (${d}, ${d}) matrix: it is not finite`);
  }
  for (let i = 0; i < d; i++) for (let j = 0; j < i; j++) a[j * d + i] = a[i * d + j];

  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let i = 0; i < d; i++) for (let j = 0; j < i; j++) off += 2 * a[i * d + j] ** 2;
    if (off <= 1e-28 * whole) break;
    for (let p = 0; p < d; p++) {
      for (let q = p + 1; q < d; q++) {
        const apq = a[p * d + q];
        if (apq === 0) continue;
        // The smaller root of t² + 2θt − 1 = 0 keeps the rotation below 45°.
        const theta = (a[q * d + q] - a[p * d + p]) / (2 * apq);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1);
        const s = t * c;
        for (let k = 0; k < d; k++) { // A ← A J
          const [kp, kq] = [a[k * d + p], a[k * d + q]];
          a[k * d + p] = c * kp - s * kq;
          a[k * d + q] = s * kp + c * kq;
        }
        for (let k = 0; k < d; k++) { // A ← Jᵀ A
          const [pk, qk] = [a[p * d + k], a[q * d + k]];
          a[p * d + k] = c * pk - s * qk;
          a[q * d + k] = s * pk + c * qk;
        }
      }
    }
  }
  return Float64Array.from({ length: d }, (_, i) => a[i * d + i]).sort().reverse();
}
