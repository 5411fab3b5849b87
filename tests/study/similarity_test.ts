import assert from "node:assert/strict";
import { effectiveRank, type Features, linearCka } from "../../lib/study/similarity.ts";
import { near, noise } from "./helpers.ts";

const features = (data: ArrayLike<number>, rows: number): Features => ({
  data,
  shape: [rows, data.length / rows],
});

Deno.test("linearCka() of two columns is their squared correlation", () => {
  const x = [1, 2, 3, 4];
  const y = [2, 1, 4, 3];
  // Centred: (−1.5, −.5, .5, 1.5) and (−.5, −1.5, 1.5, .5); product 3, norms² 5 and 5.
  near(linearCka(features(x, 4), features(y, 4)), (3 / 5) ** 2, 1e-14);
});

Deno.test("linearCka() is 1 after rotation, scale and shift, and not after stretching one axis", () => {
  const x = noise(50, 2, 1);
  const turned = Float64Array.from(x);
  const stretched = Float64Array.from(x);
  for (let r = 0; r < 50; r++) {
    turned[2 * r] = 5 + 3 * (0.6 * x[2 * r] - 0.8 * x[2 * r + 1]);
    turned[2 * r + 1] = -1 + 3 * (0.8 * x[2 * r] + 0.6 * x[2 * r + 1]);
    stretched[2 * r] *= 10;
  }
  for (const debiased of [false, true]) {
    near(linearCka(features(x, 50), features(turned, 50), { debiased }), 1, 1e-12);
    assert.ok(linearCka(features(x, 50), features(stretched, 50), { debiased }) < 0.9);
  }
});

Deno.test("linearCka() grows with C/N for unrelated features; debiased it stays near 0", () => {
  let [plain, debiased] = [0, 0];
  for (let seed = 0; seed < 20; seed++) {
    const x = features(noise(40, 80, 2 * seed), 40);
    const y = features(noise(40, 80, 2 * seed + 1), 40);
    plain += linearCka(x, y) / 20;
    debiased += linearCka(x, y, { debiased: true }) / 20;
  }
  // Isotropic noise: E‖XᵀY‖² = n c², E‖XᵀX‖² = n c² + n² c, so the plain value is near c / (n + c).
  near(plain, 80 / 120, 0.02);
  near(debiased, 0, 0.02);
});

Deno.test("linearCka() debiased equals the definition with n by n matrices", () => {
  const n = 9;
  const [x, y] = [noise(n, 3, 5), noise(n, 4, 6)];
  const gram = (data: ArrayLike<number>) => {
    const c = data.length / n;
    const k = Array.from({ length: n }, () => new Array<number>(n).fill(0));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        if (i === j) continue;
        for (let a = 0; a < c; a++) k[i][j] += data[i * c + a] * data[j * c + a];
      }
    }
    return k;
  };
  const hsic = (k: number[][], l: number[][]) => {
    let [trace, sumK, sumL, product] = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      const rowK = k[i].reduce((a, b) => a + b);
      const rowL = l[i].reduce((a, b) => a + b);
      sumK += rowK;
      sumL += rowL;
      product += rowK * rowL;
      for (let j = 0; j < n; j++) trace += k[i][j] * l[j][i];
    }
    return trace + sumK * sumL / ((n - 1) * (n - 2)) - 2 * product / (n - 2);
  };
  const [k, l] = [gram(x), gram(y)];
  const expected = hsic(k, l) / Math.sqrt(hsic(k, k) * hsic(l, l));
  near(linearCka(features(x, n), features(y, n), { debiased: true }), expected, 1e-12);
});

Deno.test("effectiveRank() is exp of the entropy of the normalised singular values", () => {
  // Orthogonal centred columns with norms 3, 2, 1: p = 1/2, 1/3, 1/6.
  const h = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]];
  const data = h.flatMap((row) => row.map((x, c) => x * (3 - c) / 2 + 10));
  const entropy = Math.log(2) / 2 + Math.log(3) / 3 + Math.log(6) / 6;
  near(effectiveRank(features(data, 4)), Math.exp(entropy), 1e-12);
});

Deno.test("effectiveRank() is 1 on a line, C for equal columns, the same from rows as from columns", () => {
  const line = [1, 2, 3, 4, 5].flatMap((t) => [t, -2 * t, 0.5 * t]);
  near(effectiveRank(features(line, 5)), 1, 1e-9);
  const equal = [1, 1, -1, 1, 1, -1, -1, -1];
  near(effectiveRank(features(equal, 4)), 2, 1e-12);
  // 6 rows in 9 columns: rank at most 5 after centring.
  const wide = noise(6, 9, 3);
  const rank = effectiveRank(features(wide, 6));
  assert.ok(rank > 4 && rank < 5, `rank ${rank}`);
  const padded = Float64Array.from({ length: 12 * 9 }, (_, i) => wide[i % 54]); // every row twice
  near(effectiveRank(features(padded, 12)), rank, 1e-9);
});

Deno.test("linearCka() and effectiveRank() refuse what does not vary, differs in rows or is not finite", () => {
  const x = features([1, 2, 3, 4], 4);
  assert.throws(
    () => linearCka(x, features([1, 2, 3], 3)),
    new TypeError("Cannot compare features of 4 rows with features of 3 rows"),
  );
  assert.throws(() => linearCka(x, features([1, 1, 1, 1], 4)), /are 5|not above 0/);
  assert.throws(() => linearCka(x, { data: [1, 2], shape: [4, 1] }), /\(4, 1\): 2 values/);
  assert.throws(() => effectiveRank(features([1, 1], 2)), /features that do not vary/);
  assert.throws(() => effectiveRank(features([1, NaN], 2)), /column 0 is not finite/);
  assert.throws(
    () => linearCka(features([1, 2, 3], 3), features([1, 2, 3], 3), { debiased: true }),
    /Cannot compute CKA on 3 rows/,
  );
});
