import assert from "node:assert/strict";
import { backward, parameter, reshape } from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { columns } from "../../lib/ops/columns.ts";
import { headNormRope, type Projected } from "../../lib/ops/head_norm_rope.ts";
import { mergeRows } from "../../lib/ops/merge_rows.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { rope, ropeTables } from "../../lib/ops/rope.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

const EPS = 1e-3;
const THETA = 100;

interface Sizes {
  tokens: number;
  heads: number;
  keyHeads: number;
  size: number;
}

const positionsOf = (tokens: number) => Array.from({ length: tokens }, (_, i) => (5 * i) % 11);

/** Queries, keys and values in f64, one after the other. */
function reference({ tokens, heads, keyHeads, size }: Sizes) {
  const slots = heads + 2 * keyHeads;
  return ([x, qNorm, kNorm]: Float64Array[]): number[] => {
    const parts: number[][] = [[], [], []];
    for (let row = 0; row < tokens * slots; row++) {
      const slot = row % slots;
      const part = slot < heads ? 0 : slot < heads + keyHeads ? 1 : 2;
      const head = x.subarray(row * size, (row + 1) * size);
      if (part === 2) {
        parts[2].push(...head);
        continue;
      }
      const weight = part === 0 ? qNorm : kNorm;
      const rms = Math.sqrt(head.reduce((sum, v) => sum + v * v, 0) / size + EPS);
      const n = head.map((v, d) => v / rms * weight[d]);
      const position = positionsOf(tokens)[Math.floor(row / slots)];
      const half = size / 2;
      const turned = Array.from(n, (v, d) => {
        const phase = position / THETA ** ((d % half) / half);
        const partner = d < half ? -n[d + half] : n[d - half];
        return v * Math.cos(phase) + partner * Math.sin(phase);
      });
      parts[part].push(...turned);
    }
    return parts.flat();
  };
}

/** Heads of all three kinds, one below the other. */
function joined({ q, k, v }: Projected): Tensor {
  const { gpu } = q;
  const size = q.dim(2);
  const [a, b, c] = [q, k, v].map((t) => reshape(t, [t.size / size, size]));
  const below = (x: Tensor, y: Tensor) => {
    const [n, m] = [x.dim(0), y.dim(0)];
    const numbers = (count: number, from: number) =>
      rowIndex(gpu, Int32Array.from({ length: count }, (_, i) => from + i), n + m);
    return mergeRows([x, y], [numbers(n, 0), numbers(m, n)], n + m);
  };
  return below(a, below(b, c));
}

function tablesFor(gpu: Gpu, { tokens, size }: Sizes) {
  return ropeTables(gpu, positionsOf(tokens), size, THETA);
}

/** The same by the plain ops. */
function plainly(x: Tensor, qNorm: Tensor, kNorm: Tensor, sizes: Sizes): Projected {
  const { tokens, heads, keyHeads, size } = sizes;
  const take = (from: number, count: number) =>
    reshape(columns(x, from * size, count * size), [tokens, count, size]);
  const tables = tablesFor(x.gpu, sizes);
  return {
    q: rope(rmsNorm(take(0, heads), qNorm, EPS), tables),
    k: rope(rmsNorm(take(heads, keyHeads), kNorm, EPS), tables),
    v: take(heads + keyHeads, keyHeads),
  };
}

const CASES: Sizes[] = [
  { tokens: 1, heads: 1, keyHeads: 1, size: 2 },
  { tokens: 13, heads: 4, keyHeads: 2, size: 6 },
  { tokens: 7, heads: 3, keyHeads: 3, size: 12 },
  { tokens: 67, heads: 4, keyHeads: 4, size: 24 },
  { tokens: 2, heads: 3, keyHeads: 1, size: 128 },
];

Deno.test(
  "headNormRope() matches the reference with one and many threads per head",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const sizes of CASES) {
        const { tokens, heads, keyHeads, size } = sizes;
        const tables = tablesFor(gpu, sizes);
        await checkOp(gpu, {
          name: `heads ${Object.values(sizes)}, software ${gpu.adapter.software}`,
          inputs: [
            { name: "x", shape: [tokens, (heads + 2 * keyHeads) * size] },
            { name: "qNorm", shape: [size] },
            { name: "kNorm", shape: [size] },
          ],
          op: ([x, qNorm, kNorm]) =>
            joined(headNormRope(x, qNorm, kNorm, tables, { heads, keyHeads, eps: EPS })),
          reference: reference(sizes),
          samples: 12,
        });
      }
    }
  },
);

Deno.test("headNormRope() splits tokens beyond the binding limit", GPU_TEST, async () => {
  const gpu = await narrowGpu(16384);
  const sizes = { tokens: 150, heads: 2, keyHeads: 1, size: 8 };
  const tables = tablesFor(gpu, sizes);
  await checkOp(gpu, {
    name: "heads in ranges of tokens",
    inputs: [
      { name: "x", shape: [150, 32] },
      { name: "qNorm", shape: [8] },
      { name: "kNorm", shape: [8] },
    ],
    op: ([x, qNorm, kNorm]) =>
      joined(headNormRope(x, qNorm, kNorm, tables, { heads: 2, keyHeads: 1, eps: EPS })),
    reference: reference(sizes),
    samples: 12,
  });
});

Deno.test(
  "headNormRope() gives the bits of the plain ops, and their gradients",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const sizes = { tokens: 41, heads: 4, keyHeads: 2, size: 16 };
    const width = 8 * 16;
    const run = (op: (x: Tensor, qNorm: Tensor, kNorm: Tensor) => Projected) =>
      readAll(tidy(() => {
        const inputs = [[41, width], [16], [16]].map((shape, i) =>
          parameter(Tensor.from(gpu, normals(shape.reduce((a, b) => a * b), i), shape))
        );
        const [x, qNorm, kNorm] = inputs;
        const { q, k, v } = op(x, qNorm, kNorm);
        const seeds = [q, k, v].map((t, i) => Tensor.from(gpu, normals(t.size, 7 + i), t.shape));
        const grads = backward([q, k, v], { seeds });
        return [q, k, v, ...inputs.map((t) => grads.get(t)!)];
      }));
    const fused = await run((x, qNorm, kNorm) =>
      headNormRope(x, qNorm, kNorm, tablesFor(gpu, sizes), { heads: 4, keyHeads: 2, eps: EPS })
    );
    const plain = await run((x, qNorm, kNorm) => plainly(x, qNorm, kNorm, sizes));
    const again = await run((x, qNorm, kNorm) =>
      headNormRope(x, qNorm, kNorm, tablesFor(gpu, sizes), { heads: 4, keyHeads: 2, eps: EPS })
    );
    assert.deepEqual(fused, again, "same bits twice");
    assert.deepEqual(fused.slice(0, 3), plain.slice(0, 3), "outputs");
    for (const [i, name] of ["dx", "dqNorm", "dkNorm"].entries()) {
      assertClose(fused[3 + i], plain[3 + i], 1e-6, name);
    }
  },
);

Deno.test("headNormRope() takes gradients that do not arrive for zeros", GPU_TEST, async () => {
  const gpu = await testGpu();
  const sizes = { tokens: 9, heads: 2, keyHeads: 1, size: 8 };
  const gradients = (read: (p: Projected) => Tensor[], zeroed: (p: Projected) => Tensor[]) =>
    readAll(tidy(() => {
      const inputs = [[9, 32], [8], [8]].map((shape, i) =>
        parameter(Tensor.from(gpu, normals(shape.reduce((a, b) => a * b), i), shape))
      );
      const [x, qNorm, kNorm] = inputs;
      const heads = headNormRope(x, qNorm, kNorm, tablesFor(gpu, sizes), { heads: 2, keyHeads: 1 });
      const [some, none] = [read(heads), zeroed(heads)];
      const seeds = [
        ...some.map((t, i) => Tensor.from(gpu, normals(t.size, 5 + i), t.shape)),
        ...none.map((t) => Tensor.zeros(gpu, t.shape)),
      ];
      const grads = backward([...some, ...none], { seeds });
      return inputs.map((t) => grads.get(t)!);
    }));
  const keys = ({ k }: Projected) => [k];
  const others = ({ q, v }: Projected) => [q, v];
  const nothing = () => [];
  for (const [read, rest] of [[keys, others], [others, keys]]) {
    const [got, want] = [await gradients(read, nothing), await gradients(read, rest)];
    got.forEach((g, i) => assertClose(g, want[i], 0, `gradient ${i}`));
  }
});

Deno.test("headNormRope() of no tokens is empty and has zero gradients", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weights = [
    parameter(Tensor.from(gpu, [1, 2], [2])),
    parameter(Tensor.from(gpu, [3, 4], [2])),
  ];
  const grads = tidy(() => {
    const x = Tensor.empty(gpu, [0, 6]);
    const { q, v } = headNormRope(x, weights[0], weights[1], ropeTables(gpu, [], 2, THETA), {
      heads: 1,
      keyHeads: 1,
    });
    assert.deepEqual([q.shape, v.shape], [[0, 1, 2], [0, 1, 2]]);
    return backward(q, { seeds: [Tensor.empty(gpu, [0, 1, 2])] });
  });
  for (const weight of weights) assert.deepEqual([...await grads.get(weight)!.floats()], [0, 0]);
});

Deno.test("headNormRope() refuses what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const tables = ropeTables(gpu, [0, 1], 4, THETA);
  const norm = Tensor.zeros(gpu, [4]);
  const sizes = { heads: 2, keyHeads: 1 };
  assert.throws(() => headNormRope(Tensor.zeros(gpu, [2, 12]), norm, norm, tables, sizes), {
    name: "TypeError",
    message:
      "Cannot take 2 and twice 1 heads out of (2, 12) with norms of (4) and (4) and tables of (2, 2)",
  });
});
