import assert from "node:assert/strict";
import { parameter } from "../../lib/autograd.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { AdamW, type AdamWOptions, type FlatGradients } from "../../lib/train/adamw.ts";
import { type Objective, runObjective } from "../../lib/train/objective.ts";
import { trainStep } from "../../lib/train/step.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import {
  differing,
  EDIT,
  inputsOf,
  isUndSide,
  QUESTION,
  sameBits,
  smallModel,
  TO_IMAGE,
  valuesOf,
  weightsOf,
} from "../model/small.ts";

const OPTIONS: AdamWOptions = { epsilon: 1e-8, weightDecay: 0.1, emaDecay: 0.9 };
/** Questions only until step 3: gen weights have fewer updates than und weights. */
const objectiveAt = (i: number): Objective => ({
  name: "all",
  inputs: inputsOf(i < 3 ? [QUESTION] : [QUESTION, TO_IMAGE, EDIT], i),
});

function train(model: UniMedVL, optimizer: AdamW, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    const metrics = trainStep(model, optimizer, [objectiveAt(i)], {
      learningRate: 2e-3,
      clip: { maxNorm: 1, over: "global" },
    });
    for (const tensor of metrics.values()) tensor.dispose();
  }
}

async function everything(model: UniMedVL, optimizer: AdamW) {
  return new Map([...await weightsOf(model), ...await valuesOf(optimizer.tensors())]);
}

Deno.test(
  "AdamW goes on from its tensors and steps in another model to the same bits",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [model, other] = [smallModel(gpu), smallModel(gpu, 2)];
    const optimizer = new AdamW(model.parameters, OPTIONS);
    train(model, optimizer, 0, 3);
    const [weights, state] = [await weightsOf(model), await valuesOf(optimizer.tensors())];
    const steps = JSON.parse(JSON.stringify(optimizer.steps()));
    assert.deepEqual([steps["und.norm.weight"], steps["gen.norm.weight"]], [3, undefined]);
    train(model, optimizer, 3, 8);

    const heir = new AdamW(other.parameters, OPTIONS);
    train(other, heir, 3, 5); // what it had learned does not matter
    for (const [name, values] of weights) other.parameters.get(name).write(values);
    const asked: string[] = [];
    await heir.restore(steps, (name, shape) => {
      asked.push(name);
      assert.equal(shape.reduce((n, d) => n * d, 1), state.get(name)!.length);
      return Promise.resolve(state.get(name)!);
    });
    assert.deepEqual(asked.sort(), [...state.keys()].sort());
    assert.deepEqual(heir.steps(), steps);
    train(other, heir, 3, 8);
    const [want, got] = [await everything(model, optimizer), await everything(other, heir)];
    assert.deepEqual(differing(got, want), []);
    assert.ok(differing(got, new Map([...weights, ...state])).length > 300, "five steps do change");
    for (const part of [optimizer, heir, model, other]) part.dispose();
  },
);

Deno.test("AdamW.restore() refuses what belongs to another model", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const optimizer = new AdamW(model.parameters);
  const read = () => Promise.resolve(new Float32Array(3));
  await assert.rejects(optimizer.restore({ "und.layers.9.attn.q.weight": 1 }, read), {
    name: "TypeError",
    message: /^Cannot restore the moments of und\.layers\.9\.attn\.q\.weight: it was no trainable/,
  });
  await assert.rejects(optimizer.restore({ "und.norm.weight": 0.5 }, read), {
    name: "RangeError",
    message: "Cannot restore the moments of und.norm.weight: it has 0.5 updates",
  });
  await assert.rejects(optimizer.restore({ "und.norm.weight": 1 }, read), {
    name: "TypeError",
    message: "Cannot write 3 values into a (32) tensor",
  });
  optimizer.dispose();
  model.dispose();
});

Deno.test(
  "a parameter frozen for a while keeps weights, moments and steps, and goes on from them",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const optimizer = new AdamW(model.parameters, OPTIONS);
    train(model, optimizer, 3, 5);
    const before = [await everything(model, optimizer), optimizer.steps()] as const;
    const und = [...model.parameters.entries()].filter(([name, tensor]) =>
      tensor.requiresGrad && isUndSide(name)
    );
    for (const [, tensor] of und) tensor.requiresGrad = false;
    train(model, optimizer, 5, 7);
    const after = await everything(model, optimizer);
    const changed = differing(after, before[0]).filter((name) => !name.startsWith("ema/"));
    assert.deepEqual(changed.filter((name) => isUndSide(name.replace(/^[mv]\//, ""))), []);
    assert.ok(changed.includes("gen.norm.weight") && changed.includes("m/gen.norm.weight"));
    for (const [, tensor] of und) tensor.requiresGrad = true;
    train(model, optimizer, 7, 8);
    const steps = optimizer.steps();
    assert.deepEqual([steps["und.norm.weight"], steps["gen.norm.weight"]], [3, 5]);
    assert.equal(before[1]["und.norm.weight"], 2);
    const last = differing(await everything(model, optimizer), after);
    assert.ok(last.includes("und.norm.weight") && last.includes("v/und.norm.weight"));
    optimizer.dispose();
    model.dispose();
  },
);

Deno.test(
  "AdamW.reset() makes the next step that of a new optimizer and keeps averages",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const optimizer = new AdamW(model.parameters, OPTIONS);
    train(model, optimizer, 0, 4);
    const weights = await weightsOf(model);
    const averages = await valuesOf(optimizer.ema);
    optimizer.reset();
    assert.deepEqual([optimizer.steps(), optimizer.tensors().size], [{}, optimizer.ema.size]);
    assert.deepEqual(differing(await valuesOf(optimizer.ema), averages), []);
    train(model, optimizer, 4, 5);

    const fresh = smallModel(gpu, 2);
    for (const [name, values] of weights) fresh.parameters.get(name).write(values);
    const anew = new AdamW(fresh.parameters, { ...OPTIONS, emaDecay: undefined });
    train(fresh, anew, 4, 5);
    assert.deepEqual(differing(await weightsOf(model), await weightsOf(fresh)), []);
    for (const part of [optimizer, anew, model, fresh]) part.dispose();
  },
);

/** Three parameters of one value each, for arithmetic by hand. */
async function handful(options: AdamWOptions = {}) {
  const gpu = await testGpu();
  const parameters = new Parameters();
  for (const name of ["a", "b", "c"]) parameters.add(name, parameter(Tensor.from(gpu, [1], [1])));
  const optimizer = new AdamW(parameters, { epsilon: 1e-8, ...options });
  const one = Tensor.from(gpu, [1], [1]);
  const gradients = (values: Record<string, number>) =>
    new Map(
      Object.entries(values).map(([name, value]) => [
        parameters.get(name),
        Tensor.from(gpu, [value], [1]),
      ]),
    );
  const update = (sums: FlatGradients, rate = 0.1) => {
    optimizer.step(new Map([...sums].map(([g, given]) => [g, { ...given, factor: one }])), rate);
    for (const { flat } of sums.values()) flat.dispose();
  };
  return { gpu, parameters, optimizer, gradients, update };
}

Deno.test("AdamW.emaDecay may change from step to step", GPU_TEST, async () => {
  const { parameters, optimizer, gradients, update } = await handful();
  const averages = async () => (await readAll([...optimizer.ema.values()])).map(([v]) => v);
  update(optimizer.collect(gradients({ a: 1 })));
  assert.equal(optimizer.ema.size, 0);
  const [first] = await parameters.get("a").floats();
  optimizer.emaDecay = 0.5; // starts from the weights
  assert.deepEqual(await averages(), [first, 1, 1]);
  update(optimizer.collect(gradients({ a: 1 })));
  const [second] = await parameters.get("a").floats();
  assert.ok(Math.abs((await averages())[0] - (first + second) / 2) < 1e-7);
  const [before] = await averages();
  optimizer.emaDecay = 0.75;
  update(new Map());
  assert.ok(Math.abs((await averages())[0] - (0.75 * before + 0.25 * second)) < 1e-7);
  optimizer.emaDecay = 0;
  update(new Map());
  assert.deepEqual(await averages(), [second, 1, 1]);
  optimizer.emaDecay = undefined;
  update(optimizer.collect(gradients({ a: 1 })));
  assert.deepEqual(await averages(), [second, 1, 1], "they stand still");
  optimizer.dispose();
  parameters.dispose();
});

Deno.test(
  "AdamW.accumulate() adds up a window and counts it as one update",
  GPU_TEST,
  async () => {
    const { gpu, parameters, optimizer, gradients, update } = await handful();
    const live = gpu.buffers.liveCount;
    let sums: FlatGradients | undefined;
    for (const micro of [{ a: 3, b: 1 }, { a: -1 }, { c: 7, a: 4 }]) {
      sums = optimizer.accumulate(sums, gradients(micro as Record<string, number>));
    }
    const [{ flat, present }] = sums!.values();
    const values = await flat.floats();
    assert.deepEqual([values[0], values[64], values[128]], [6, 1, 7]);
    assert.deepEqual(present, [true, true, true]);
    assert.equal(gpu.buffers.liveCount, live + 1, "micro-batches leave only their sum");
    update(sums!);
    assert.equal(gpu.buffers.liveCount, live + 2, "the update leaves both moments");
    assert.deepEqual(optimizer.steps(), { a: 1, b: 1, c: 1 });
    assert.ok(Math.abs((await optimizer.state.get("a")!.m.floats())[0] - 0.6) < 1e-7);
    optimizer.dispose();
    parameters.dispose();
  },
);

Deno.test(
  "AdamW.accumulate() of two batches gives the bits of their gradients' sums",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const optimizer = new AdamW(model.parameters);
    const flats = async (batches: number[]) => {
      let sums: FlatGradients | undefined;
      for (const i of batches) {
        sums = tidy(() => {
          const { total, gradients } = runObjective(model, objectiveAt(i));
          total.dispose();
          return optimizer.accumulate(sums, gradients);
        });
      }
      const [{ flat, present }] = sums!.values();
      const values = await flat.floats();
      flat.dispose();
      return { values, present };
    };
    const [a, b, both] = [await flats([0]), await flats([3]), await flats([0, 3])];
    assert.deepEqual(both.present, a.present.map((here, i) => here || b.present[i]));
    assert.ok(sameBits(both.values, a.values.map((v, i) => v + b.values[i])));
    assert.ok(a.present.includes(false) && both.values.some((v) => v !== 0));
    optimizer.dispose();
    model.dispose();
  },
);

Deno.test("an AdamW whose parameters a later one took over says so", GPU_TEST, async () => {
  const { parameters, optimizer, gradients, update } = await handful();
  const later = new AdamW(parameters, { epsilon: 1e-8 });
  const message = "Cannot update a: a later optimizer was made over it; go on with that one";
  const given = gradients({ a: 1 });
  assert.throws(() => optimizer.collect(given), { name: "TypeError", message });
  assert.throws(() => update(new Map()), { name: "TypeError", message });
  await assert.rejects(optimizer.restore({}, () => Promise.reject(new Error("not asked"))), {
    name: "TypeError",
    message,
  });
  assert.equal(later.collect(given).size, 1);
  optimizer.dispose();
  assert.equal((await parameters.get("b").floats())[0], 1, "disposing of it leaves the weights");
  later.dispose();
  parameters.dispose();
});
