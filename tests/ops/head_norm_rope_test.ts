import assert from "node:assert/strict";
import { backward, detach, parameter, reshape } from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { columns } from "../../lib/ops/columns.ts";
import {
  type HeadCut,
  headNormRope,
  type HeadPart,
  headsFit,
  joinHeads,
  type Projected,
} from "../../lib/ops/head_norm_rope.ts";
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

/** Two projections of unequal length, their tokens mixed, for two uses with cuts; results of each, and gradients. */
async function joined2(
  gpu: Gpu,
  heads: (parts: HeadPart[], uses: HeadCut[][]) => Projected[],
): Promise<{ values: ArrayLike<number>[]; gradients: Map<string, ArrayLike<number>> }> {
  const places = [[5, 0, 3, 8, 9, 2], [1, 7, 4, 6]];
  const shapes = (n: number) => [[n, 64], [16], [16]];
  const made = tidy(() => {
    const inputs = places.map(({ length }, i) =>
      shapes(length).map((shape, j) =>
        parameter(Tensor.from(gpu, normals(shape.reduce((a, b) => a * b), 7 * i + j), shape))
      )
    );
    const parts = inputs.map(([x, qNorm, kNorm], i): HeadPart => ({
      x,
      qNorm,
      kNorm,
      tables: ropeTables(gpu, places[i], 16, THETA),
      rows: rowIndex(gpu, Int32Array.from(places[i]), 10),
    }));
    const uses = [[{ q: true, kv: true }, {}], [{}, { q: true }]];
    const ys = heads(parts, uses).flatMap(({ q, k, v }) => [q, k, v]);
    const seeds = ys.map((y, i) => Tensor.from(gpu, normals(y.size, 50 + i), y.shape));
    const kept = ys.map((y) => y.alias());
    const grads = backward(ys, { seeds });
    const found = inputs.flat().map((t, i) => [`${i}`, grads.get(t)] as const);
    return [kept, found.flatMap(([name, t]) => t ? [[name, t] as const] : [])] as const;
  });
  const [ys, grads] = made;
  const values = await readAll(ys);
  const gradients = await readAll(grads.map(([, t]) => t));
  return { values, gradients: new Map(grads.map(([name], i) => [name, gradients[i]])) };
}

Deno.test(
  "joinHeads() is headNormRope() of each projection, merged, and cuts what it is told to",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      const sizes = { heads: 2, keyHeads: 1, eps: EPS };
      const fused = await joined2(gpu, (parts, uses) => joinHeads(parts, 10, sizes, uses));
      const apart = await joined2(gpu, (parts, uses) => {
        const own = parts.map(({ x, qNorm, kNorm, tables }) =>
          headNormRope(x, qNorm, kNorm, tables, sizes)
        );
        const rows = [parts[0].rows!, parts[1].rows!] as const;
        return uses.map((cuts) => {
          const [q, k, v] = (["q", "k", "v"] as const).map((name) => {
            const cut = (i: number) => name === "q" ? cuts[i].q : cuts[i].kv;
            const [a, b] = own.map((heads, i) => cut(i) ? detach(heads[name]) : heads[name]);
            return mergeRows([a, b], rows, 10);
          });
          return { q, k, v };
        });
      });
      assert.deepEqual(fused.values, apart.values);
      assert.deepEqual([...fused.gradients.keys()], [...apart.gradients.keys()]);
      for (const [name, want] of apart.gradients) {
        assertClose(fused.gradients.get(name)!, want, 1e-6, `gradient ${name}`);
      }
    }
  },
);

Deno.test("headNormRope() and joinHeads() refuse what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const tables = ropeTables(gpu, [0, 1], 4, THETA);
  const norm = Tensor.zeros(gpu, [4]);
  const sizes = { heads: 2, keyHeads: 1 };
  assert.throws(() => headNormRope(Tensor.zeros(gpu, [2, 12]), norm, norm, tables, sizes), {
    name: "TypeError",
    message: "Cannot take 2 and twice 1 heads out of (2, 12) with norms of (4) and (4), " +
      "tables of (2, 2) and no places for 2 tokens",
  });
  const rows = rowIndex(gpu, Int32Array.of(0, 2), 3);
  const part = { x: Tensor.zeros(gpu, [2, 16]), qNorm: norm, kNorm: norm, tables, rows };
  assert.throws(() => joinHeads([part], 3, sizes), {
    name: "TypeError",
    message: "Cannot join heads: 2 rows are given for 3 tokens",
  });
  const narrow = await narrowGpu(4096);
  assert.equal(headsFit(narrow, 64, 4, sizes), true);
  assert.equal(headsFit(narrow, 65, 4, sizes), false);
  const many = ropeTables(narrow, new Int32Array(65), 4, THETA);
  assert.throws(() => headNormRope(Tensor.zeros(narrow, [65, 16]), norm, norm, many, sizes), {
    name: "TypeError",
    message:
      "Cannot join the heads of 65 tokens: they exceed the 4096 bytes that this adapter binds at once",
  });
});
