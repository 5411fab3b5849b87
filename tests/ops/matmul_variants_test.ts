// Every matmul kernel and cut, whether or not this adapter's choice uses it.

import assert from "node:assert/strict";
import type { Gpu } from "../../lib/gpu/device.ts";
import { product, type ProductOptions } from "../../lib/ops/matmul_launch.ts";
import { chooseMatmul, type MatmulChoice } from "../../lib/ops/matmul_config.ts";
import { planMatmul } from "../../lib/ops/matmul_plan.ts";
import { canRun, tileName } from "../../lib/ops/matmul_tile.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds } from "./variants.ts";

const NAIVE: MatmulChoice = { kernel: "naive", rowBlocks: 1, columnBlocks: 1, splits: 1 };
const LAYOUTS = [[false, false], [false, true], [true, false], [true, true]];

/** The variants this adapter can run, by name. */
function variants(gpu: Gpu): [string, MatmulChoice][] {
  const choices: MatmulChoice[] = [NAIVE];
  for (const [rowBlocks, columnBlocks] of [[1, 1], [1, 2], [2, 1], [2, 2]]) {
    choices.push({ kernel: "register", rowBlocks, columnBlocks, splits: 1 });
    choices.push({ kernel: "tiled", rowBlocks, columnBlocks, side: 8, splits: 1 });
  }
  choices.push({ kernel: "register", rowBlocks: 1, columnBlocks: 1, splits: 3 });
  choices.push({ kernel: "tiled", rowBlocks: 1, columnBlocks: 1, side: 16, splits: 3 });
  choices.push({ kernel: "subgroup", rowBlocks: 4, columnBlocks: 1, splits: 1 });
  choices.push({ kernel: "subgroup", rowBlocks: 8, columnBlocks: 1, splits: 2 });
  return choices.filter((choice) => canRun(gpu, choice))
    .map((choice) => [`${tileName(choice)}, ${choice.splits} splits`, choice]);
}

interface Case {
  name: string;
  a: Tensor;
  b: Tensor;
  options: ProductOptions;
  reference: Float64Array;
}

/** A seeded product in one layout, with its f64 result. */
function makeCase(gpu: Gpu, sizes: number[], layout: boolean[], withBias: boolean): Case {
  const [rows, columns, inner] = sizes;
  const [transposeA, transposeB] = layout;
  const a = normals(rows * inner, 3);
  const b = normals(inner * columns, 5);
  const bias = normals(columns, 7);
  const reference = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      let sum = withBias ? bias[c] : 0;
      for (let k = 0; k < inner; k++) {
        sum += a[transposeA ? k * rows + r : r * inner + k] *
          b[transposeB ? c * inner + k : k * columns + c];
      }
      reference[r * columns + c] = sum;
    }
  }
  return {
    name: `${layout.map((t) => t ? "T" : "N").join("")} ${sizes.join("x")}`,
    a: Tensor.from(gpu, a, transposeA ? [inner, rows] : [rows, inner]),
    b: Tensor.from(gpu, b, transposeB ? [columns, inner] : [inner, columns]),
    options: {
      rows,
      columns,
      inner,
      transposeA,
      transposeB,
      bias: withBias ? Tensor.from(gpu, bias, [columns]) : undefined,
    },
    reference,
  };
}

/** Fills idle memory of the sizes in use with NaN, so that a read past an operand shows. */
function poison(gpu: Gpu): void {
  const dirty: Tensor[] = [];
  for (let bytes = 256; bytes <= 2 ** 15; bytes += 256) {
    for (let i = 0; i < 2; i++) {
      dirty.push(Tensor.from(gpu, new Float32Array(bytes / 4).fill(NaN), [bytes / 4]));
    }
  }
  for (const t of dirty) t.dispose();
}

Deno.test(
  "every matmul variant matches f64 in every layout and at ragged sizes",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    poison(gpu);
    const shapes = [[1, 1, 1], [7, 1, 13], [31, 33, 3], [32, 32, 16], [33, 36, 20], [65, 67, 127]];
    for (const layout of LAYOUTS) {
      for (const [i, sizes] of shapes.entries()) {
        const test = makeCase(gpu, sizes, layout, i % 2 === 0);
        const names = variants(gpu);
        const results = names.map(([, choice]) =>
          product(test.a, test.b, { ...test.options, choice })
        );
        const values = await readAll(results);
        names.forEach(([name], j) =>
          assertClose(values[j], test.reference, FORWARD, `${name} ${test.name}`)
        );
        for (const t of [test.a, test.b, ...results]) t.dispose();
      }
    }
  },
);

Deno.test(
  "every matmul variant agrees with the naive kernel at training shapes",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const shapes: [number[], boolean[]][] = [
      [[509, 288, 96], LAYOUTS[1]],
      [[509, 96, 288], LAYOUTS[0]],
      [[96, 192, 509], LAYOUTS[2]],
    ];
    for (const [[rows, columns, inner], [transposeA, transposeB]] of shapes) {
      const a = Tensor.from(
        gpu,
        normals(rows * inner, 3),
        transposeA ? [inner, rows] : [rows, inner],
      );
      const b = Tensor.from(
        gpu,
        normals(inner * columns, 4),
        transposeB ? [columns, inner] : [inner, columns],
      );
      const options = { rows, columns, inner, transposeA, transposeB };
      const names = variants(gpu);
      const results = names.map(([, choice]) => product(a, b, { ...options, choice }));
      const [expected, ...values] = await readAll(results);
      values.forEach((v, i) => assertClose(v, expected, FORWARD, names[i + 1][0]));
    }
  },
);

Deno.test(
  "product() chooses well-formed launches for every kind of adapter",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const sizes of [[96, 36, 509], [3, 50, 40], [300, 70, 16]]) {
        const test = makeCase(gpu, sizes, LAYOUTS[2], true);
        const { splits } = chooseMatmul(gpu, test.options);
        assert.equal(splits > 1, !gpu.adapter.software && sizes[2] > 128, `splits of ${sizes}`);
        const c = product(test.a, test.b, test.options);
        assertClose(await c.floats(), test.reference, FORWARD, test.name);
      }
    }
  },
);

Deno.test("a NaN stays in its row and its column in every matmul variant", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [rows, columns, inner] = [37, 41, 20]; // a slab of k ends in the next row or column
  for (const [transposeA, transposeB] of LAYOUTS) {
    const a = new Float32Array(rows * inner).fill(1);
    const b = new Float32Array(inner * columns).fill(1);
    a[transposeA ? 30 : 30 * inner] = NaN; // row 30, k = 0
    b[transposeB ? 5 * inner : 5] = NaN; // k = 0, column 5
    const options = { rows, columns, inner, transposeA, transposeB };
    const [x, y] = [Tensor.from(gpu, a, [rows, inner]), Tensor.from(gpu, b, [inner, columns])];
    const names = variants(gpu);
    const values = await readAll(
      names.map(([, choice]) => product(x, y, { ...options, choice })),
    );
    names.forEach(([name], j) => {
      const wrong = [...values[j]].findIndex((v, i) => {
        const hit = Math.floor(i / columns) === 30 || i % columns === 5;
        return hit ? !Number.isNaN(v) : v !== inner;
      });
      assert.equal(wrong, -1, `${name}: element ${wrong} is ${values[j][wrong]}`);
    });
  }
});

Deno.test("product() gives the same bits twice", GPU_TEST, async () => {
  const gpu = await testGpu();
  const { a, b, options } = makeCase(gpu, [45, 50, 300], LAYOUTS[2], false);
  for (const [name, choice] of variants(gpu)) {
    const [x, y] = await readAll([1, 2].map(() => product(a, b, { ...options, choice })));
    assert.deepEqual(x, y, name);
  }
});

Deno.test("product() cuts operands and results that exceed a binding", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const sizes of [[200, 36, 20], [36, 200, 20], [20, 36, 200], [131, 133, 135]]) {
    for (const layout of LAYOUTS) {
      const test = makeCase(gpu, sizes, layout, true);
      const limitBytes = 4 * 64 * 136 + 256;
      const largest = Math.max(
        ...planMatmul(test.options, limitBytes).map((p) => p.rows * p.columns * p.inner),
      );
      if (sizes[0] === 131) assert.ok(largest < 131 * 133 * 135, "the plan has several pieces");
      for (const choice of [NAIVE, undefined]) {
        const c = product(test.a, test.b, {
          ...test.options,
          limitBytes,
          ...(choice ? { choice } : {}),
        });
        assertClose(await c.floats(), test.reference, FORWARD, `cut ${test.name}`);
      }
    }
  }
});

Deno.test("planMatmul() covers the product once within the limit", () => {
  for (const [transposeA, transposeB] of LAYOUTS) {
    const sizes = { rows: 500, columns: 300, inner: 400, transposeA, transposeB };
    const limitBytes = 2 ** 18;
    let volume = 0;
    for (const p of planMatmul(sizes, limitBytes)) {
      volume += p.rows * p.columns * p.inner;
      const a = transposeA ? 500 * p.inner : p.rows * 400;
      const b = transposeB ? 400 * p.columns : p.inner * 300;
      for (const values of [a, b, p.rows * 300]) assert.ok(4 * values <= limitBytes);
    }
    assert.equal(volume, 500 * 300 * 400);
  }
});

Deno.test("product() refuses what no cut or index can reach", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.zeros(gpu, [128, 40]);
  const plain = { transposeA: false, transposeB: false };
  assert.throws(
    () =>
      product(x, x, {
        rows: 128,
        columns: 128,
        inner: 40,
        ...plain,
        transposeB: true,
        limitBytes: 1024,
      }),
    {
      message:
        "Cannot multiply matrices: 64 rows of 128 values exceed the 1024 B this adapter binds at once",
    },
  );
  assert.throws(
    () => product(x, x, { rows: 2 ** 17, columns: 1, inner: 2 ** 16, ...plain }),
    {
      name: "RangeError",
      message: "Cannot multiply (131072, 65536) by (65536, 1): more than 2^32 elements",
    },
  );
});
