import assert from "node:assert/strict";
import {
  binomialCdf,
  incompleteBeta,
  logGamma,
  normalCdf,
  normalQuantile,
  tCdf,
  tQuantile,
} from "../../lib/study/distributions.ts";
import { near } from "./helpers.ts";

Deno.test("tQuantile() has the closed forms for 1, 2 and 4 degrees of freedom", () => {
  for (const p of [0.001, 0.025, 0.3, 0.5, 0.9, 0.975, 0.9995]) {
    const one = Math.tan(Math.PI * (p - 0.5));
    near(tQuantile(p, 1), one, 1e-10 * Math.max(1, Math.abs(one)), `p ${p}, df 1`);
    const a = 4 * p * (1 - p);
    const two = (2 * p - 1) * Math.sqrt(2 / a);
    near(tQuantile(p, 2), two, 1e-11 * Math.max(1, Math.abs(two)), `p ${p}, df 2`);
    const q = Math.cos(Math.acos(Math.sqrt(a)) / 3) / Math.sqrt(a); // Shaw 2006
    const four = Math.sign(p - 0.5) * 2 * Math.sqrt(Math.max(0, q - 1));
    near(tQuantile(p, 4), four, 1e-7 * Math.max(1, Math.abs(four)), `p ${p}, df 4`);
  }
});

Deno.test("tQuantile() agrees with the printed table at 97.5 % and with 15-digit values", () => {
  const table = { 3: 3.182, 5: 2.571, 10: 2.228, 14: 2.145, 30: 2.042, 120: 1.98 };
  for (const [df, t] of Object.entries(table)) near(tQuantile(0.975, Number(df)), t, 5e-4, `${df}`);
  near(tQuantile(0.975, 9), 2.262157162798205, 1e-13);
  near(tQuantile(0.995, 30), 2.7499956535672254, 1e-13);
  near(tQuantile(0.975, 1000), 1.9623390808264083, 1e-12);
  near(tQuantile(0.9, 3.5), 1.5765766051364052, 1e-13);
  near(tQuantile(1e-6, 4), -41.577854150450975, 1e-10);
});

Deno.test("tCdf() inverts tQuantile() and is symmetric", () => {
  for (const df of [1, 2.5, 7, 40]) {
    for (const p of [1e-5, 0.2, 0.5, 0.8]) near(tCdf(tQuantile(p, df), df), p, 1e-14, `df ${df}`);
    near(tCdf(1.7, df) + tCdf(-1.7, df), 1, 1e-15);
  }
});

Deno.test("normalCdf() and normalQuantile() match 15-digit values in the middle and the tails", () => {
  near(normalCdf(1.3), 0.9031995154143897, 1e-15);
  near(normalCdf(-3.5) / 0.00023262907903552502, 1, 1e-13);
  near(normalCdf(-8) / 6.22096057427174e-16, 1, 1e-12);
  near(normalQuantile(0.975), 1.959963984540054, 1e-14);
  near(normalQuantile(0.995), 2.5758293035489004, 1e-13);
  near(normalQuantile(1e-10), -6.361340902404056, 1e-12);
  assert.equal(normalQuantile(0.5), 0);
});

Deno.test("binomialCdf() equals the sum of its terms", () => {
  for (const [n, p] of [[1, 0.5], [20, 0.3], [57, 0.91]]) {
    let term = (1 - p) ** n;
    let sum = 0;
    for (let k = 0; k < n; k++) {
      sum += term;
      near(binomialCdf(k, n, p), sum, 1e-12, `P(X ≤ ${k}), n ${n}, p ${p}`);
      term *= ((n - k) / (k + 1)) * (p / (1 - p));
    }
    assert.equal(binomialCdf(n, n, p), 1);
    assert.equal(binomialCdf(-1, n, p), 0);
  }
});

Deno.test("logGamma() gives factorials and Γ(½), incompleteBeta() its closed forms", () => {
  let factorial = 1;
  for (let n = 1; n < 20; n++) {
    near(logGamma(n), Math.log(factorial), 1e-12, `log Γ(${n})`);
    factorial *= n;
  }
  near(logGamma(0.5), Math.log(Math.PI) / 2, 1e-13);
  near(logGamma(100.5), 361.43554046777757, 1e-11);
  near(incompleteBeta(0.3, 1, 5), 1 - 0.7 ** 5, 1e-14);
  near(incompleteBeta(0.3, 4, 1), 0.3 ** 4, 1e-14);
  near(incompleteBeta(0.4, 2.5, 3.5), 0.4869041915261176, 1e-13);
});

Deno.test("quantiles and distribution functions refuse what is outside their range", () => {
  assert.throws(() => tQuantile(1, 3), /^RangeError: Cannot take the 1 quantile of Student's t/);
  assert.throws(() => tCdf(0, 0), /Cannot use Student's t with 0 degrees of freedom/);
  assert.throws(() => normalQuantile(0), /Cannot take the 0 quantile of the normal/);
  assert.throws(() => incompleteBeta(2, 1, 1), /Cannot take the incomplete beta function at x 2/);
  assert.throws(() => logGamma(0), /Cannot take log Γ of 0/);
});
