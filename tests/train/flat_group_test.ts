import assert from "node:assert/strict";
import { parameter } from "../../lib/autograd.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { FlatGroup, flatGroups } from "../../lib/train/flat_group.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";

const SHAPES = { a: [3, 5], b: [64], c: [1], d: [130] };

Deno.test(
  "FlatGroup lays values and gradients out alike, zeros between them",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const entries = Object.entries(SHAPES).map(([name, shape], i) => {
      const size = shape.reduce((n, d) => n * d, 1);
      return [name, Tensor.from(gpu, new Float32Array(size).fill(i + 1), shape)] as const;
    });
    const group = new FlatGroup(entries);
    assert.deepEqual(group.members.map(({ start }) => start), [0, 64, 128, 192]);
    assert.equal(group.size, 384);
    const flat = group.gather();
    const values = await flat.floats();
    const filled = [[0, 15, 1], [64, 64, 2], [128, 1, 3], [192, 130, 4]];
    const want = new Float32Array(384);
    for (const [start, count, value] of filled) want.fill(value, start, start + count);
    assert.deepEqual(values, want);
    const gradients = new Map([[entries[2][1], Tensor.from(gpu, [9], [1])]]);
    const { flat: collected, present } = group.collect(gradients)!;
    assert.deepEqual(present, [false, false, true, false]);
    assert.equal(gradients.size, 0);
    const seen = await collected.floats();
    assert.deepEqual([seen[128], seen.reduce((a, b) => a + b)], [9, 9]);
    assert.equal(group.collect(new Map()), undefined);
    for (const [, t] of entries) t.dispose();
    for (const t of [flat, collected]) t.dispose();
  },
);

Deno.test("FlatGroup.runs() joins neighbours of one kind", GPU_TEST, async () => {
  const gpu = await testGpu();
  const entries = Array.from(
    { length: 6 },
    (_, i) => [`p${i}`, Tensor.zeros(gpu, [4])] as const,
  );
  const [group] = flatGroups(entries);
  const kinds = [1, 1, undefined, 1, 2, 2];
  assert.deepEqual(group.runs(({ index }) => kinds[index]), [
    { first: 0, last: 1 },
    { first: 3, last: 3 },
    { first: 4, last: 5 },
  ]);
  assert.deepEqual(flatGroups([]), []);
  for (const [, t] of entries) t.dispose();
});

Deno.test(
  "AdamW updates only parameters with a gradient, each by its own count",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const parameters = new Parameters();
    const start: Record<string, Float32Array> = {};
    for (const [name, shape] of Object.entries(SHAPES)) {
      const size = shape.reduce((n, d) => n * d, 1);
      start[name] = normals(size, size);
      parameters.add(name, parameter(Tensor.from(gpu, start[name], shape)));
    }
    const optimizer = new AdamW(parameters, { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 });
    const one = Tensor.from(gpu, [1], [1]);
    const step = (names: string[]) => {
      const gradients = new Map(names.map((name) => {
        const weight = parameters.get(name);
        return [weight, Tensor.from(gpu, new Float32Array(weight.size).fill(2), weight.shape)];
      }));
      const scaled = new Map(
        [...optimizer.collect(gradients)].map((
          [group, given],
        ) => [group, { ...given, factor: one }]),
      );
      optimizer.step(scaled, 0.1);
    };
    step(["a", "c"]);
    step(["a", "b", "c"]);
    assert.deepEqual([...optimizer.state].map(([name, { step }]) => [name, step]), [
      ["a", 2],
      ["c", 2],
      ["b", 1],
    ]);
    const names = Object.keys(SHAPES);
    const values = await readAll(names.map((name) => parameters.get(name)));
    const moved = names.map((name, i) => start[name][0] - (values[i] as Float32Array)[0]);
    // A constant gradient moves a weight by the learning rate at every one of its own steps.
    [0.2, 0.1, 0.2, 0].forEach((want, i) =>
      assert.ok(Math.abs(moved[i] - want) < 1e-5, `${moved}`)
    );
    const stranger = Tensor.zeros(gpu, [2]);
    assert.throws(() => optimizer.collect(new Map([[stranger, Tensor.zeros(gpu, [2])]])), {
      name: "TypeError",
      message: /^Cannot update a \(2\) tensor: it was no trainable parameter/,
    });
    optimizer.dispose();
    parameters.dispose();
  },
);
