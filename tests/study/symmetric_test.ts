import assert from "node:assert/strict";
import { cholesky, choleskySolve, symmetricEigenvalues } from "../../lib/study/symmetric.ts";
import { near, noise } from "./helpers.ts";

/** AᵀA of seeded noise, plus the identity. */
function positiveDefinite(d: number): Float64Array {
  const a = noise(d, d, d);
  return Float64Array.from({ length: d * d }, (_, at) => {
    const [i, j] = [Math.floor(at / d), at % d];
    let sum = i === j ? 1 : 0;
    for (let k = 0; k < d; k++) sum += a[k * d + i] * a[k * d + j];
    return sum;
  });
}

Deno.test("cholesky() gives the factor of a 3 by 3 example", () => {
  const l = cholesky(Float64Array.of(4, 12, -16, 12, 37, -43, -16, -43, 98), 3);
  assert.deepEqual([l[0], l[3], l[4], l[6], l[7], l[8]], [2, 6, 1, -8, 5, 3]);
});

Deno.test("choleskySolve() recovers planted solutions for several right-hand sides", () => {
  for (const d of [1, 2, 17, 40]) {
    const a = positiveDefinite(d);
    const x = noise(d, 3, 1);
    const b = new Float64Array(d * 3);
    for (let i = 0; i < d; i++) {
      for (let j = 0; j < d; j++) {
        for (let k = 0; k < 3; k++) b[i * 3 + k] += a[i * d + j] * x[j * 3 + k];
      }
    }
    choleskySolve(cholesky(a.slice(), d), d, b, 3);
    b.forEach((value, i) => near(value, x[i], 1e-9, `d ${d}, entry ${i}`));
  }
});

Deno.test("cholesky() refuses a matrix that is not positive definite", () => {
  assert.throws(
    () => cholesky(Float64Array.of(1, 2, 2, 1), 2),
    new RangeError("Cannot factor a (2, 2) matrix: pivot 1 is -3"),
  );
});

Deno.test("symmetricEigenvalues() gives the known spectrum of the second-difference matrix", () => {
  const d = 12;
  const a = Float64Array.from({ length: d * d }, (_, at) => {
    const gap = Math.abs(Math.floor(at / d) - at % d);
    return gap === 0 ? 2 : gap === 1 ? -1 : 0;
  });
  const values = symmetricEigenvalues(a, d);
  const expected = Array.from(
    { length: d },
    (_, k) => 2 - 2 * Math.cos((d - k) * Math.PI / (d + 1)),
  );
  values.forEach((value, i) => near(value, expected[i], 1e-13, `eigenvalue ${i}`));
});

Deno.test("symmetricEigenvalues() keeps trace and squared norm, finds repeated and negative values", () => {
  const a = positiveDefinite(30);
  const values = symmetricEigenvalues(a, 30);
  const trace = a.reduce((sum, x, at) => sum + (at % 31 === 0 ? x : 0), 0);
  near(values.reduce((sum, x) => sum + x, 0), trace, 1e-9);
  near(values.reduce((sum, x) => sum + x * x, 0), a.reduce((sum, x) => sum + x * x, 0), 1e-6);
  symmetricEigenvalues(Float64Array.of(0, 1, 1, 0), 2)
    .forEach((value, i) => near(value, [1, -1][i], 1e-15, "swap"));
  assert.deepEqual([...symmetricEigenvalues(Float64Array.of(3, 0, 0, 3), 2)], [3, 3]);
  assert.deepEqual([...symmetricEigenvalues(new Float64Array(4), 2)], [0, 0]);
  assert.throws(
    () => symmetricEigenvalues(Float64Array.of(NaN), 1),
    /Cannot take eigenvalues of a \(1, 1\) matrix/,
  );
});
