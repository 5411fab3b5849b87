import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask, type TokenMask } from "../../lib/ops/attention_mask.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, FORWARD, GPU_TEST, GRADIENT, normals, testGpu } from "../helpers.ts";
import { denseAttention, mixedTokens, oneSplit, type Sizes } from "./attention_reference.ts";

/** The op's output and gradients for seeded inputs, with those of the f64 reference. */
async function compare(name: string, tokens: TokenMask, sizes: Sizes, magnitude = 1) {
  const gpu = await testGpu();
  const { H, K, D } = sizes;
  const [nq, nk] = [tokens.sample.length, (sizes.keys ?? tokens).sample.length];
  const shapes = [[nq, H, D], [nk, K, D], [nk, K, D]];
  const host = shapes.map((s, i) => normals(s[0] * s[1] * s[2], 7 + 13 * i, i < 2 ? magnitude : 1));
  const dy = normals(nq * H * D, 77);
  const inputs = host.map((values, i) => parameter(Tensor.from(gpu, values, shapes[i])));
  const { y, grads } = tidy(() => {
    const mask = attentionMask(gpu, tokens, sizes.keys, { queryOffset: sizes.offset ?? 0 });
    const options = sizes.scale === undefined ? {} : { scale: sizes.scale };
    const y = attention(inputs[0], inputs[1], inputs[2], mask, options);
    return { y, grads: backward(y, { seeds: [Tensor.from(gpu, dy, y.shape)] }) };
  });
  const results = [y, ...inputs.map((x) => grads.get(x)!)];
  const got = await readAll(results) as Float32Array[];
  for (const t of [...results, ...inputs]) t.dispose();
  const want = denseAttention(tokens, sizes, host, dy);
  assertClose(got[0], want.y, FORWARD, `${name} y`);
  if (want.dq.some((x) => Math.abs(x) > 1e-9)) {
    assertClose(got[1], want.dq, GRADIENT / 10, `${name} dq`);
    assertClose(got[2], want.dk, GRADIENT / 10, `${name} dk`);
  } else { // one key: its probability is 1 whatever q and k
    assert.ok([...got[1], ...got[2]].every((x) => Math.abs(x) < 1e-5), `${name}: dq, dk vanish`);
  }
  assertClose(got[3], want.dv, GRADIENT / 10, `${name} dv`);
  return got;
}

Deno.test(
  "attention() and its gradient match central differences of the reference",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const [n, H, K, D] of [[1, 1, 1, 8], [7, 2, 1, 8], [9, 4, 2, 16], [23, 7, 1, 6]]) {
      const tokens = mixedTokens({ samples: n > 8 ? [n - 5, 5] : [n], branches: true });
      const mask = attentionMask(gpu, tokens);
      await checkOp(gpu, {
        name: `attention ${n} tokens, ${H}/${K} heads of ${D}`,
        inputs: [
          { name: "q", shape: [n, H, D] },
          { name: "k", shape: [n, K, D] },
          { name: "v", shape: [n, K, D] },
        ],
        op: ([q, k, v]) => attention(q, k, v, mask),
        reference: (inputs) => denseAttention(tokens, { H, K, D }, inputs).y,
        samples: 24,
      });
      mask.table.dispose();
    }
  },
);

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
    for (
      const [H, K, D] of [[4, 4, 8], [2, 1, 16], [4, 4, 24], [7, 1, 32], [2, 2, 64], [4, 2, 72], [
        7,
        1,
        128,
      ]]
    ) {
      await compare(`${H}/${K} heads of ${D}`, tokens, { H, K, D });
    }
  },
);
