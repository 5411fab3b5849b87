import assert from "node:assert/strict";
import type { Sample } from "../../lib/data/sample.ts";
import { readAll } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { lossTotals, type Objective } from "../../lib/train/objective.ts";
import { TrainWindow, type WindowEnd } from "../../lib/train/window.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import {
  answer,
  differing,
  EDIT,
  inputsOf,
  picture,
  QUESTION,
  seen,
  smallModel,
  text,
  TO_IMAGE,
  valuesOf,
  weightsOf,
} from "../model/small.ts";

const LONG: Sample = { plan: [seen(picture(9)), text(1), answer(2, 3, 4, 5, 6, 7)] };

/** Losses and weights after one window of some micro-batches, given as lists of samples. */
async function windowOf(micros: Sample[][], end: Partial<WindowEnd> = {}, change = keep) {
  const model = smallModel(await testGpu());
  const optimizer = new AdamW(model.parameters, { emaDecay: 0.9 });
  const inputs = micros.map((samples, i) => inputsOf(samples, 7 + i)).map(change);
  const totals = { text: 0, flow: 0 };
  for (const { packed } of inputs) {
    const { text, flow } = lossTotals(packed, false);
    totals.text += text;
    totals.flow += flow;
  }
  const window = new TrainWindow(model, optimizer);
  for (const each of inputs) {
    window.add({ name: "all", inputs: each, textWeight: 0.25, totals });
  }
  const metrics = window.finish({ learningRate: 1e-2, ...end });
  const values = await readAll([...metrics.values()]);
  const read = Object.fromEntries([...metrics.keys()].map((name, i) => [name, values[i][0]]));
  for (const tensor of metrics.values()) tensor.dispose();
  const result = { read, weights: await weightsOf(model), ema: await valuesOf(optimizer.ema) };
  optimizer.dispose();
  model.dispose();
  return result;
}
const keep = (inputs: Objective["inputs"]) => inputs;

Deno.test(
  "a window cut in two is the window, though its texts differ in length",
  GPU_TEST,
  async () => {
    const whole = await windowOf([[QUESTION, LONG]]);
    const cut = await windowOf([[QUESTION], [LONG]]);
    assertClose([cut.read.text], [whole.read.text], 1e-6, "text loss");
    assertClose([cut.read.norm2], [whole.read.norm2], 1e-5, "squared norm");
    const mean = await windowOf([[QUESTION]]);
    assert.ok(Math.abs(mean.read.text - whole.read.text) > 1e-3, "the two texts differ in loss");
  },
);

Deno.test("TrainWindow clips the whole gradient, and weighs each loss", GPU_TEST, async () => {
  const free = await windowOf([[QUESTION, TO_IMAGE], [EDIT]]);
  assert.equal(free.read.finite, 1);
  assert.ok(free.read.flow > 0 && free.read.text > 0);
  const clipped = await windowOf([[QUESTION, TO_IMAGE], [EDIT]], { maxNorm: 1e-3 });
  assert.equal(clipped.read.norm2, free.read.norm2, "the norm is that before clipping");
  assert.ok(differing(clipped.weights, free.weights).length > 0);
});

Deno.test(
  "a window with a number that is not finite changes no weight and no average",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const [before, none] = [await weightsOf(model), smallModel(await testGpu(), 2)];
    none.dispose();
    model.dispose();
    const broken = (inputs: Objective["inputs"]) => {
      if (inputs.noise) inputs.noise[inputs.packed.mseRows[0]] = NaN;
      return inputs;
    };
    const { read, weights, ema } = await windowOf([[QUESTION], [TO_IMAGE]], {}, broken);
    assert.ok(Number.isNaN(read.finite) && Number.isNaN(read.flow), JSON.stringify(read));
    assert.ok(Number.isFinite(read.text));
    assert.deepEqual(differing(weights, before), []);
    for (const [name, average] of ema) assert.deepEqual(average, before.get(name), name);
  },
);

Deno.test("a window gives back what it took, finished or left", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu);
  const optimizer = new AdamW(model.parameters);
  const objective = { name: "all", inputs: inputsOf([QUESTION, TO_IMAGE]) };
  const step = () => {
    const window = new TrainWindow(model, optimizer);
    window.add(objective);
    for (const tensor of window.finish({ learningRate: 1e-3 }).values()) tensor.dispose();
    window.dispose();
  };
  step();
  const live = gpu.buffers.liveBytes;
  step();
  assert.equal(gpu.buffers.liveBytes, live);
  const left = new TrainWindow(model, optimizer);
  left.add(objective);
  left.dispose();
  assert.equal(gpu.buffers.liveBytes, live);
  assert.throws(() => new TrainWindow(model, optimizer).finish({ learningRate: 1 }), {
    message: "Cannot finish a step without a gradient",
  });
  optimizer.dispose();
  model.dispose();
});
