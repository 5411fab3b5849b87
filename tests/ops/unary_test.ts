import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { abs, exp, geluTanh, silu, softplus, swiglu } from "../../lib/ops/unary.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";

const FUNCTIONS = {
  silu: { op: silu, exact: (x: number) => x / (1 + Math.exp(-x)) },
  geluTanh: {
    op: geluTanh,
    exact: (x: number) =>
      0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  },
};

for (const [name, { op, exact }] of Object.entries(FUNCTIONS)) {
  Deno.test(`${name}() matches the reference at sizes around a block`, GPU_TEST, async () => {
    const gpu = await testGpu();
    for (const n of [1, 3, 255, 257, 1021]) {
      await checkOp(gpu, {
        name: `${name} ${n}`,
        inputs: [{ name: "x", shape: [n], data: normals(n, n, 3) }],
        op: ([x]) => op(x),
        reference: ([x]) => x.map(exact),
      });
    }
  });

  Deno.test(`${name}() and its slope are finite and right far from zero`, GPU_TEST, async () => {
    const gpu = await testGpu();
    const far = [-1e30, -1e4, -88, -20, -0, 20, 88, 1e4, 1e30];
    const [y, dx] = await readAll(tidy(() => {
      const x = parameter(Tensor.from(gpu, far, [far.length]));
      const y = op(x);
      const seed = Tensor.from(gpu, far.map(() => 1), [far.length]);
      return [y, backward(y, { seeds: [seed] }).get(x)!];
    }));
    far.forEach((x, i) => {
      const slope = x === 0 ? 0.5 : x < 0 ? 0 : 1;
      const want = Math.fround(Math.max(x, 0));
      assert.ok(
        Math.abs(y[i] - want) <= 1e-6 * Math.max(1, Math.abs(x)),
        `${name}(${x}) = ${y[i]}`,
      );
      assert.ok(Math.abs(dx[i] - slope) < 1e-6, `slope at ${x} is ${dx[i]}`);
    });
  });

  Deno.test(`${name}() passes what is not a number on`, GPU_TEST, async () => {
    const x = Tensor.from(await testGpu(), [NaN, 1], [2]);
    assert.ok(Number.isNaN((await op(x).floats())[0]));
  });
}

const PLAIN = {
  softplus: { op: softplus, exact: (x: number) => Math.log1p(Math.exp(x)) },
  exp: { op: exp, exact: Math.exp },
  abs: { op: abs, exact: Math.abs },
};

for (const [name, { op, exact }] of Object.entries(PLAIN)) {
  Deno.test(`${name}() matches the reference at sizes around a block`, GPU_TEST, async () => {
    const gpu = await testGpu();
    for (const n of [1, 255, 257]) {
      await checkOp(gpu, {
        name: `${name} ${n}`,
        inputs: [{ name: "x", shape: [n], data: normals(n, n, 3) }],
        op: ([x]) => op(x),
        reference: ([x]) => x.map(exact),
      });
    }
  });
}

Deno.test(
  "softplus() is finite far from zero, exp() and abs() at zero are 1 and 0",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const at = (op: (x: Tensor) => Tensor, values: number[]) =>
      readAll(tidy(() => {
        const x = parameter(Tensor.from(gpu, values, [values.length]));
        const y = op(x);
        const seed = Tensor.from(gpu, values.map(() => 1), [values.length]);
        return [y, backward(y, { seeds: [seed] }).get(x)!];
      }));
    const [far, slopes] = await at(softplus, [-1e30, -100, 100, 1e30]);
    assert.deepEqual([...far], [0, 0, 100, Math.fround(1e30)]);
    slopes.forEach((slope, i) => assert.ok(Math.abs(slope - (i < 2 ? 0 : 1)) < 1e-6, `${slope}`));
    assert.deepEqual((await at(exp, [0])).map((v) => v[0]), [1, 1]);
    assert.deepEqual((await at(abs, [0])).map((v) => v[0]), [0, 0]);
    assert.ok(Number.isNaN((await at(softplus, [NaN]))[0][0]));
  },
);

Deno.test("swiglu() matches the reference at sizes around a block", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 255, 1021]) {
    await checkOp(gpu, {
      name: `swiglu ${n}`,
      inputs: [{ name: "gate", shape: [n] }, { name: "up", shape: [n] }],
      op: ([gate, up]) => swiglu(gate, up),
      reference: ([gate, up]) => gate.map((g, i) => g / (1 + Math.exp(-g)) * up[i]),
    });
  }
});

Deno.test("swiglu() refuses different shapes", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => swiglu(Tensor.zeros(gpu, [2]), Tensor.zeros(gpu, [3])), {
    name: "TypeError",
    message: "Cannot gate (3) with (2)",
  });
});
