import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { Gpu } from "../../lib/gpu/device.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask, type TokenMask } from "../../lib/ops/attention_mask.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, FORWARD, GPU_TEST, GRADIENT, normals, testGpu } from "../helpers.ts";
import {
  denseAttention,
  mixedTokens,
  oneSplit,
  type Sizes,
  sliceTokens,
} from "./attention_reference.ts";
import { narrowGpu } from "./variants.ts";

/** f32 gradients against the f64 analytic gradient; cancellation in dp - delta costs a digit. */
const ANALYTIC = 5e-5;

let families: Record<string, Gpu> | undefined;

/** One adapter treated as each kind that has kernels of its own; one of them needs 8-lane subgroups. */
async function eachFamily(): Promise<[string, Gpu][]> {
  const gpu = await testGpu();
  const as = (software: boolean, lanes: number) =>
    new Gpu(gpu.device, { ...gpu.adapter, software }, lanes, gpu.subgroupLine, {});
  families ??= { tiles: as(false, 0), "plain rows": as(true, 0) };
  if (gpu.subgroupSize === 8) families["8 lanes"] ??= as(true, 8);
  return Object.entries(families);
}

/** Tensors of a case on the host: q, k, v and the upstream gradient. */
function hostInputs(tokens: TokenMask, sizes: Sizes, magnitude = 1) {
  const { H, K, D } = sizes;
  const [nq, nk] = [tokens.sample.length, (sizes.keys ?? tokens).sample.length];
  const shapes = [[nq, H, D], [nk, K, D], [nk, K, D]];
  const values = shapes.map((s, i) =>
    normals(s[0] * s[1] * s[2], 7 + 13 * i, i < 2 ? magnitude : 1)
  );
  return { shapes, values, dy: normals(nq * H * D, 77) };
}

/** y, dq, dk, dv of the op. */
async function run(gpu: Gpu, tokens: TokenMask, sizes: Sizes, host: ReturnType<typeof hostInputs>) {
  const inputs = host.values.map((x, i) => parameter(Tensor.from(gpu, x, host.shapes[i])));
  const { y, grads } = tidy(() => {
    const mask = attentionMask(gpu, tokens, sizes.keys, { queryOffset: sizes.offset ?? 0 });
    const options = sizes.scale === undefined ? {} : { scale: sizes.scale };
    const y = attention(inputs[0], inputs[1], inputs[2], mask, options);
    return { y, grads: backward(y, { seeds: [Tensor.from(gpu, host.dy, y.shape)] }) };
  });
  const results = [y, ...inputs.map((x) => grads.get(x)!)];
  const got = await readAll(results) as Float32Array[];
  for (const t of [...results, ...inputs]) t.dispose();
  return got;
}

/** Compares output and gradients of every family of kernels with the f64 reference. */
async function compare(name: string, tokens: TokenMask, sizes: Sizes, magnitude = 1) {
  const host = hostInputs(tokens, sizes, magnitude);
  const want = denseAttention(tokens, sizes, host.values, host.dy);
  for (const [family, gpu] of await eachFamily()) {
    const got = await run(gpu, tokens, sizes, host);
    const what = `${name} (${family})`;
    assertClose(got[0], want.y, FORWARD, `${what} y`);
    assertClose(got[3], want.dv, ANALYTIC, `${what} dv`);
    if (want.dq.some((x) => Math.abs(x) > 1e-9)) {
      assertClose(got[1], want.dq, ANALYTIC, `${what} dq`);
      assertClose(got[2], want.dk, ANALYTIC, `${what} dk`);
    } else { // one key: its probability is 1 whatever q and k
      assert.ok([...got[1], ...got[2]].every((x) => Math.abs(x) < 1e-5), `${what}: dq, dk vanish`);
    }
  }
}

Deno.test("attention() and its gradient match central differences", GPU_TEST, async () => {
  const cases = [[1, 1, 1, 8], [7, 2, 1, 8], [9, 4, 2, 16], [23, 7, 1, 6]];
  for (const [family, gpu] of await eachFamily()) {
    for (const [n, H, K, D] of cases) {
      const tokens = mixedTokens({ samples: n > 8 ? [n - 5, 5] : [n], branches: true });
      const mask = attentionMask(gpu, tokens);
      await checkOp(gpu, {
        name: `attention (${family}), ${n} tokens, ${H}/${K} heads of ${D}`,
        inputs: [
          { name: "q", shape: [n, H, D] },
          { name: "k", shape: [n, K, D], differentiable: n > 1 },
          { name: "v", shape: [n, K, D] },
        ].map((x) => n === 1 && x.name === "q" ? { ...x, differentiable: false } : x),
        op: ([q, k, v]) => attention(q, k, v, mask),
        reference: (inputs) => denseAttention(tokens, { H, K, D }, inputs).y,
        samples: 24,
      });
      mask.table.dispose();
    }
  }
});

Deno.test("attention() matches the f64 reference at lengths around a block", GPU_TEST, async () => {
  for (const n of [1, 7, 8, 9, 31, 32, 33, 61, 64, 65]) {
    for (const mode of [0, 1]) {
      await compare(`${n} tokens, mode ${mode}`, oneSplit(n, mode), { H: 2, K: 2, D: 24 });
    }
  }
});

Deno.test(
  "attention() matches the f64 reference at every head size and grouping",
  GPU_TEST,
  async () => {
    const tokens = mixedTokens({ samples: [37, 1, 45], branches: true });
    const heads = [
      [4, 4, 8],
      [2, 1, 16],
      [4, 4, 24],
      [7, 1, 32],
      [2, 2, 64],
      [4, 2, 72],
      [14, 2, 128],
      [2, 2, 10],
      [1, 1, 33],
    ];
    for (const [H, K, D] of heads) await compare(`${H}/${K} heads of ${D}`, tokens, { H, K, D });
  },
);

Deno.test(
  "attention() matches the f64 reference for one wide head over an image",
  GPU_TEST,
  async () => {
    for (const D of [64, 96, 160, 256, 512]) {
      await compare(`one head of ${D}`, oneSplit(49, 1), { H: 1, K: 1, D });
    }
  },
);

Deno.test(
  "attention() matches the f64 reference on mixed samples with a scale",
  GPU_TEST,
  async () => {
    for (const seed of [1, 2, 3]) {
      const tokens = mixedTokens({ samples: [3, 70, 41, 1, 90], branches: seed > 1, seed });
      await compare(`mixture ${seed}`, tokens, { H: 4, K: 2, D: 24, scale: 0.5 });
    }
  },
);

Deno.test(
  "attention() of the last tokens to all equals those rows of the whole",
  GPU_TEST,
  async () => {
    const keys = mixedTokens({ samples: [30, 50], branches: true, seed: 4 });
    for (const offset of [0, 13, 41, 79]) {
      const queries = sliceTokens(keys, offset, 80);
      await compare(`from ${offset}`, queries, { H: 4, K: 2, D: 16, keys, offset });
    }
  },
);

Deno.test("attention() in turns of few tiles equals all at once", GPU_TEST, async () => {
  const gpu = await testGpu();
  const keys = mixedTokens({ samples: [90, 8, 150, 30], branches: true, seed: 5 });
  const cases: [TokenMask, Sizes][] = [
    [keys, { H: 4, K: 2, D: 24 }],
    [keys, { H: 6, K: 1, D: 8 }],
    [sliceTokens(keys, 200, 278), { H: 4, K: 4, D: 8, keys, offset: 200 }],
  ];
  for (const [tokens, sizes] of cases) {
    const host = hostInputs(tokens, sizes);
    const want = denseAttention(tokens, sizes, host.values, host.dy);
    for (const bytes of [2 ** 17, 2 ** 18]) { // 30 tiles, 60 tiles
      const narrow = await narrowGpu(bytes);
      const got = await run(narrow, tokens, sizes, host);
      const exact = [want.y, want.dq, want.dk, want.dv];
      exact.forEach((x, i) => assertClose(got[i], x, ANALYTIC, `result ${i}, ${bytes} bytes`));
    }
  }
  assert.ok(gpu.maxBindingBytes > 2 ** 18);
});

Deno.test("attention() separates copies of a batch that are scattered", GPU_TEST, async () => {
  const tokens = mixedTokens({ samples: [40, 40], seed: 8 });
  for (let i = 0; i < 80; i++) tokens.sample[i] = tokens.split[i] = i % 3; // ids far apart
  tokens.mode.forEach((_, i) => tokens.mode[i] = i % 3);
  await compare("scattered", tokens, { H: 2, K: 1, D: 16 });
});

Deno.test("attention() stays finite and right with logits of ±80", GPU_TEST, async () => {
  const tokens = mixedTokens({ samples: [40, 30], seed: 6 });
  const sizes = { H: 2, K: 2, D: 16, scale: 1 };
  const host = hostInputs(tokens, sizes);
  const peak = (x: Float32Array) => x.map((v) => Math.sign(v) * Math.sqrt(5));
  host.values[0] = peak(host.values[0]);
  host.values[1] = peak(host.values[1]);
  host.values[1].set(host.values[0].subarray(32 * 2, 32 * 22)); // query i meets itself at key i - 2
  host.values[1].set(host.values[0].subarray(32 * 32, 32 * 60).map((x) => -x), 32 * 30); // and its opposite
  const logit = (i: number, j: number) => {
    const row = (x: Float32Array, n: number) => x.subarray(32 * n, 32 * n + 16);
    return row(host.values[0], i).reduce((s, x, d) => s + x * row(host.values[1], j)[d], 0);
  };
  assert.deepEqual([logit(10, 8), logit(50, 48)].map(Math.round), [80, -80]);
  const want = denseAttention(tokens, sizes, host.values, host.dy);
  for (const [family, gpu] of await eachFamily()) {
    const got = await run(gpu, tokens, sizes, host);
    assertClose(got[0], want.y, 5 * FORWARD, `${family} y`);
    for (const [i, exact] of [want.dq, want.dk, want.dv].entries()) {
      assertClose(got[i + 1], exact, GRADIENT, `${family} gradient ${i}`);
    }
  }
});

Deno.test("attention() returns the same bits twice", GPU_TEST, async () => {
  const tokens = mixedTokens({ samples: [60, 40], branches: true });
  for (const D of [24, 72]) {
    const sizes = { H: 4, K: 2, D };
    const host = hostInputs(tokens, sizes);
    for (const [family, gpu] of await eachFamily()) {
      const first = await run(gpu, tokens, sizes, host);
      assert.deepEqual(await run(gpu, tokens, sizes, host), first, family);
    }
  }
});

Deno.test("attention() takes memory linear in the tokens", GPU_TEST, async () => {
  const { device, adapter, subgroupSize, subgroupLine } = await testGpu();
  const peak = async (n: number) => {
    const gpu = new Gpu(device, adapter, subgroupSize, subgroupLine, {}); // counts from zero
    const tokens = oneSplit(n, 0);
    const sizes = { H: 1, K: 1, D: 8 };
    await run(gpu, tokens, sizes, hostInputs(tokens, sizes));
    return gpu.buffers.peakBytes;
  };
  const [half, whole] = [await peak(2048), await peak(4096)];
  assert.ok(whole <= 2 * half, `peak ${half} bytes for 2048 tokens, ${whole} for 4096`);
  assert.ok(whole < 4096 * 4096, "less than a byte per pair");
});

Deno.test("attention() computes only the gradients asked for", GPU_TEST, async () => {
  for (const [family, gpu] of await eachFamily()) {
    const tensors = [1, 2, 3].map((seed) => Tensor.from(gpu, normals(160, seed), [10, 2, 8]));
    const mask = attentionMask(gpu, oneSplit(10, 0));
    const dispatches = (wanted: number) => {
      tensors.forEach((t, i) => t.requiresGrad = i === wanted);
      const before = gpu.dispatches;
      tidy(() => {
        const y = attention(tensors[0], tensors[1], tensors[2], mask);
        backward(y, { seeds: [tensors[0]] });
      });
      return gpu.dispatches - before;
    };
    // Forward, delta and one pass; on 8 lanes mask, scores, mix, delta, mask, pairs and one product.
    const want = family === "8 lanes" ? [7, 7, 7, 3] : [3, 3, 3, 1];
    assert.deepEqual([0, 1, 2, -1].map(dispatches), want, family);
  }
});

Deno.test("attention() refuses shapes and masks that do not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const mask = attentionMask(gpu, oneSplit(5, 0));
  const call = (q: number[], k: number[], v = k) => () =>
    attention(Tensor.zeros(gpu, q), Tensor.zeros(gpu, k), Tensor.zeros(gpu, v), mask);
  assert.throws(call([5, 2, 8], [5, 2, 4]), {
    name: "TypeError",
    message: "Cannot attend with q (5, 2, 8), k (5, 2, 4), v (5, 2, 4): " +
      "expected (Nq, H, D), (Nk, K, D) and (Nk, K, D)",
  });
  assert.throws(call([5, 2, 8], [5, 2, 8], [5, 1, 8]), /expected \(Nq, H, D\)/);
  assert.throws(call([5, 16], [5, 16]), /expected \(Nq, H, D\)/);
  assert.throws(call([5, 3, 8], [5, 2, 8]), {
    message: "Cannot attend with q (5, 3, 8), k (5, 2, 8), v (5, 2, 8): " +
      "3 heads do not divide into 2 key heads",
  });
  assert.throws(call([6, 2, 8], [6, 2, 8]), {
    message: "Cannot attend with q (6, 2, 8), k (6, 2, 8), v (6, 2, 8): " +
      "the mask has 5 queries and 5 keys",
  });
  assert.throws(call([5, 2, 0], [5, 2, 0]), /: empty$/);
});
