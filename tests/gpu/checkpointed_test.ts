import assert from "node:assert/strict";
import {
  backward,
  checkpointed,
  detach,
  needsGrad,
  noGrad,
  parameter,
  record,
} from "../../lib/autograd.ts";
import { add } from "../../lib/ops/add.ts";
import { linear } from "../../lib/ops/linear.ts";
import { mul } from "../../lib/ops/mul.ts";
import { stackedLinear } from "../../lib/ops/stacked_linear.ts";
import { silu } from "../../lib/ops/unary.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";
import { sameBits } from "../model/small.ts";

const ROWS = 6;
const WIDTH = 8;

type Block = (inputs: readonly Tensor[]) => readonly Tensor[];

/** Three parameters, two inputs, and values of the results and all gradients of a function of them. */
async function differentiate(
  fn: (inputs: readonly Tensor[], weights: readonly Tensor[]) => readonly Tensor[],
  around: (block: Block, inputs: readonly Tensor[]) => readonly Tensor[],
  needs: readonly boolean[] = [true, true],
) {
  const gpu = await testGpu();
  const weights = [1, 2, 3].map((seed) =>
    parameter(Tensor.from(gpu, normals(WIDTH * WIDTH, seed, 0.3), [WIDTH, WIDTH]))
  );
  const inputs = [4, 5].map((seed, i) => {
    const x = Tensor.from(gpu, normals(ROWS * WIDTH, seed), [ROWS, WIDTH]).keep();
    x.requiresGrad = needs[i];
    return x;
  });
  const live = gpu.buffers.liveCount;
  const results = tidy(() => {
    const ys = around((x) => fn(x, weights), inputs.map((x) => needs[0] ? silu(x) : x));
    const kept = ys.map((y) => y.alias());
    const losses = ys.map((y, i) => mul(y, Tensor.from(gpu, normals(y.size, 7 + i), y.shape)));
    const seeds = losses.map((y, i) => Tensor.from(gpu, normals(y.size, 9 + i), y.shape));
    const gradients = backward(losses, { seeds });
    const all = [...inputs, ...weights];
    return { ys: kept, grads: all.map((x) => gradients.get(x) ?? null) };
  });
  const tensors = [...results.ys, ...results.grads.filter((g) => g !== null)];
  const values = await readAll(tensors) as Float32Array[];
  const got = results.grads.map((g) => g && values[tensors.indexOf(g)]);
  for (const tensor of tensors) tensor.dispose();
  assert.equal(gpu.buffers.liveCount, live, "nothing is left behind");
  for (const tensor of [...weights, ...inputs]) tensor.dispose();
  return { values: values.slice(0, results.ys.length), gradients: got };
}

/** The block itself, and checkpointed; their values and gradients. */
async function assertSameBothWays(
  fn: (inputs: readonly Tensor[], weights: readonly Tensor[]) => readonly Tensor[],
  needs?: readonly boolean[],
) {
  const want = await differentiate(fn, (block, inputs) => block(inputs), needs);
  const got = await differentiate(fn, checkpointed, needs);
  for (const side of ["values", "gradients"] as const) {
    assert.equal(got[side].length, want[side].length);
    for (const [i, expected] of want[side].entries()) {
      const value = got[side][i];
      assert.equal(value === null, expected === null, `${side} ${i}`);
      if (value && expected) assert.ok(sameBits(value, expected), `${side} ${i}`);
    }
  }
  return want;
}

Deno.test(
  "checkpointed() gives values and gradients of inputs and parameters bit by bit",
  GPU_TEST,
  async () => {
    const { gradients } = await assertSameBothWays(([x, y], [a, b]) => {
      const both = stackedLinear(add(x, y), [a, b]);
      return [silu(both), x];
    });
    // The third parameter is not read.
    assert.deepEqual(gradients.map((g) => g !== null), [true, true, true, true, false]);
    assert.ok(gradients.every((g) => g === null || g.some((v) => v !== 0)));
  },
);

Deno.test(
  "checkpointed() passes gradients to parameters where no input needs one",
  GPU_TEST,
  async () => {
    const { gradients } = await assertSameBothWays(
      ([x, y], [a]) => [linear(mul(x, y), a), mul(x, y)],
      [false, false],
    );
    assert.deepEqual(gradients.map((g) => g !== null), [false, false, true, false, false]);
  },
);

Deno.test("checkpointed() keeps cuts, nests and takes results apart", GPU_TEST, async () => {
  const inner: Block = ([h, w]) => [silu(linear(h, w))];
  const { gradients } = await assertSameBothWays(([x, y], [a, b, c]) => {
    const [h] = checkpointed(inner, [x, a]);
    const sum = add(h, linear(detach(y), b));
    return [sum, linear(h, detach(c)), sum];
  });
  assert.deepEqual(gradients.map((g) => g !== null), [true, false, true, true, false]);
});

Deno.test(
  "checkpointed() holds its inputs and results only, until backward",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const weight = parameter(Tensor.from(gpu, normals(WIDTH * WIDTH, 1), [WIDTH, WIDTH]));
    let runs = 0;
    const block: Block = ([x]) => {
      runs++;
      let h = x;
      for (let i = 0; i < 5; i++) h = silu(linear(h, weight));
      return [h];
    };
    const measure = (around: (block: Block, inputs: readonly Tensor[]) => readonly Tensor[]) =>
      tidy(() => {
        const x = Tensor.from(gpu, normals(ROWS * WIDTH, 2), [ROWS, WIDTH]);
        const live = gpu.buffers.liveCount;
        const [y] = around(block, [x]);
        const made = gpu.buffers.liveCount - live;
        const seeds = [Tensor.from(gpu, normals(y.size, 3), y.shape)];
        for (const gradient of backward(y, { seeds }).values()) gradient.dispose();
        return made;
      });
    assert.equal(measure((fn, inputs) => fn(inputs)), 10);
    assert.equal(runs, 1);
    assert.equal(measure(checkpointed), 2, "the result, and the knot of its history");
    assert.equal(runs, 3);
    noGrad(() => measure((fn, inputs) => [parameter(checkpointed(fn, inputs)[0])]));
    assert.equal(runs, 4, "nothing is computed twice where nothing is recorded");
    weight.dispose();
  },
);

Deno.test("checkpointed() asks only for gradients that are needed", GPU_TEST, async () => {
  const gpu = await testGpu();
  tidy(() => {
    const w = parameter(Tensor.from(gpu, [1, 2], [2]));
    const [x, h] = [Tensor.from(gpu, [3, 4], [2]), silu(w)];
    const asked: (readonly boolean[])[] = [];
    const watched: Block = ([a, b]) => {
      const y = record(mul(detach(a), detach(b)), [a, b], (dy, needs) => {
        asked.push(needs);
        return needs.map((need) => need ? dy : null);
      });
      return [y, detach(a)];
    };
    const [y, cut] = checkpointed(watched, [x, h]);
    assert.deepEqual([needsGrad(y), needsGrad(cut)], [true, false]);
    assert.equal(backward(y, { seeds: [x] }).size, 1);
    assert.deepEqual(asked, [[false, true]]);
    w.dispose();
  });
});

Deno.test("checkpointed() refuses a captured value that needs a gradient", GPU_TEST, async () => {
  const gpu = await testGpu();
  tidy(() => {
    const w = parameter(Tensor.from(gpu, [1, 2], [2]));
    const captured = silu(w);
    const x = Tensor.from(gpu, [1, 2], [2]);
    assert.throws(() => checkpointed(([h]) => [mul(h, captured)], [x]), {
      message:
        "internal: a checkpointed function reads a (2) tensor that needs a gradient and is " +
        "not among its inputs",
    });
    assert.equal(
      backward(checkpointed(([h, c]) => [mul(h, c)], [x, captured]), {
        seeds: [Tensor.from(gpu, [1, 1], [2])],
      }).size,
      1,
      "and works on after that",
    );
    w.dispose();
  });
});
