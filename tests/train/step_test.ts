import assert from "node:assert/strict";
import type { Sample } from "../../lib/data/sample.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { readAll, tidy } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { type Objective, objectiveLoss, runObjective } from "../../lib/train/objective.ts";
import { type Clip, type StepOptions, trainStep } from "../../lib/train/step.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import {
  answer,
  differing,
  drawn,
  EDIT,
  inputsOf,
  isUndSide,
  named,
  picture,
  QUESTION,
  sameBits,
  seen,
  smallModel,
  text,
  TO_IMAGE,
  weightsOf,
} from "../model/small.ts";

/** f32 sums in another order: a few hundred terms deep. */
const ROUNDING = 2e-5;

type Floats = Map<string, Float32Array>;

/** One step; its metrics read back. */
async function step(
  model: UniMedVL,
  optimizer: AdamW,
  objectives: Objective[],
  options: Partial<StepOptions> = {},
): Promise<Record<string, number>> {
  const metrics = trainStep(model, optimizer, objectives, { learningRate: 2e-3, ...options });
  const values = await readAll([...metrics.values()]);
  for (const tensor of metrics.values()) tensor.dispose();
  return Object.fromEntries([...metrics.keys()].map((name, i) => [name, values[i][0]]));
}

async function gradientsOf(model: UniMedVL, objective: Objective): Promise<Floats> {
  const { gradients } = tidy(() => runObjective(model, objective));
  const values = await named(model, gradients);
  for (const gradient of gradients.values()) gradient.dispose();
  return values;
}

const cutEverywhere = () => true;

/** Batches of three steps: questions, and pictures to draw from text and from images. */
const textAt = (i: number): Objective => ({
  name: "text",
  inputs: inputsOf([QUESTION, { plan: [seen(picture(10 + i)), text(1, 2), answer(i)] }], i),
});
const flowAt = (i: number, blocked = false): Objective => ({
  name: "flow",
  inputs: inputsOf([TO_IMAGE, EDIT], 50 + i),
  ...(blocked ? { blocked: cutEverywhere } : {}),
});

type Arm = "und" | "joint" | "blocked";

/** The weights after three steps of an arm. */
async function trained(arm: Arm, clip: Clip | undefined): Promise<Floats> {
  const model = smallModel(await testGpu());
  const optimizer = new AdamW(model.parameters);
  for (let i = 0; i < 3; i++) {
    const objectives = [textAt(i)];
    if (arm !== "und") objectives.push(flowAt(i, arm === "blocked"));
    await step(model, optimizer, objectives, clip ? { clip } : {});
  }
  const weights = await weightsOf(model);
  optimizer.dispose();
  model.dispose();
  return weights;
}

Deno.test("joint training overfits one batch: both losses fall", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu);
  const optimizer = new AdamW(model.parameters);
  const all: Objective = { name: "all", inputs: inputsOf([QUESTION, TO_IMAGE, EDIT]) };
  const options = { learningRate: 4e-3, clip: { maxNorm: 1, over: "objective" } } as const;
  const first = await step(model, optimizer, [all], options);
  const live = gpu.buffers.liveCount;
  let last = first;
  for (let i = 0; i < 80; i++) last = await step(model, optimizer, [all], options);
  assert.equal(gpu.buffers.liveCount, live, "a step leaves nothing behind");
  assert.ok(last.text < first.text / 100, `text: ${first.text} → ${last.text}`);
  assert.ok(last.flow < first.flow / 10, `flow: ${first.flow} → ${last.flow}`);
  optimizer.dispose();
  model.dispose();
});

Deno.test(
  "with blocked routes and each objective clipped alone, und weights are those of the und arm",
  GPU_TEST,
  async () => {
    const clip: Clip = { maxNorm: 0.5, over: "objective" };
    const und = await trained("und", clip);
    const changed = async (arm: Arm, against: Floats, by: Clip | undefined) =>
      differing(await trained(arm, by), against).filter(isUndSide);
    assert.deepEqual(await changed("blocked", und, clip), []);
    assert.ok((await changed("joint", und, clip)).includes("und.layers.0.attn.q.weight"));
    // Without clipping the guard is not needed; with one norm for all it would be.
    assert.deepEqual(await changed("blocked", await trained("und", undefined), undefined), []);
    const shared: Clip = { maxNorm: 0.5, over: "global" };
    const rescaled = await changed("blocked", await trained("und", shared), shared);
    assert.ok(
      rescaled.includes("und.layers.0.attn.q.weight"),
      "a shared norm rescales und updates",
    );
    // And the blocked arm does learn to generate.
    const gen = differing(await trained("blocked", clip), und).filter((name) => !isUndSide(name));
    assert.ok(gen.includes("gen.layers.1.mlp.down.weight") && gen.includes("latent.in.weight"));
  },
);

Deno.test(
  "blocking changes no value, and no gradient that does not pass und tokens",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const samples = [QUESTION, TO_IMAGE, EDIT];
    const open: Objective = { name: "all", inputs: inputsOf(samples) };
    const cut: Objective = { ...open, blocked: cutEverywhere };
    const lossesOf = async (objective: Objective) => {
      const { text, flow } = tidy(() => objectiveLoss(model, objective));
      const values = await readAll([text!, flow!]);
      for (const tensor of [text, flow]) tensor!.dispose();
      return new Map(values.map((v, i) => [["text", "flow"][i], v as Float32Array]));
    };
    assert.deepEqual(differing(await lossesOf(cut), await lossesOf(open)), []);

    const flow: Objective = { name: "flow", inputs: inputsOf([TO_IMAGE, EDIT]) };
    const [free, blocked] = [
      await gradientsOf(model, flow),
      await gradientsOf(model, { ...flow, blocked: cutEverywhere }),
    ];
    assert.deepEqual([...blocked.keys()].filter(isUndSide), [], "no und gradient at all");
    // Below the last layer, gen weights also act through SOI, EOI and text that saw their tokens; those
    // are und tokens, so that way is cut with the others.
    const last = [...free.keys()].filter((name) =>
      /^gen\.(layers\.1|norm)|^latent\.out/.test(name)
    );
    assert.equal(last.length, 17);
    for (const name of last) assert.ok(sameBits(blocked.get(name)!, free.get(name)!), name);
    assert.deepEqual([...blocked.keys()], [...free.keys()].filter((name) => !isUndSide(name)));
    assert.ok([...free.keys()].filter(isUndSide).includes("vit.embed.patch.weight"));
    model.dispose();
  },
);

Deno.test("blocking one layer of two leaves the other route open", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const inputs = inputsOf([EDIT]);
  const of = (blocked: (layer: number) => boolean) =>
    gradientsOf(model, { name: "flow", inputs, blocked });
  const [first, second] = [await of((layer) => layer === 0), await of((layer) => layer === 1)];
  assert.ok(first.has("und.layers.1.attn.k.weight") && first.has("vit.embed.patch.weight"));
  assert.ok(!second.has("und.layers.1.attn.k.weight") && second.has("und.layers.0.attn.k.weight"));
  assert.ok(!second.has("und.layers.0.mlp.up.weight"), "only layer 1 reads what it makes");
  model.dispose();
});

Deno.test(
  "in a mixed batch, blocking leaves the und gradient of the text loss",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    // A sample with both losses, and one of each kind.
    const both: Sample = {
      plan: [seen(picture(7)), text(2), answer(3, 4), text(5), drawn(picture(8))],
    };
    const inputs = inputsOf([QUESTION, both, TO_IMAGE]);
    const mixed: Objective = { name: "all", inputs, blocked: cutEverywhere };
    const got = await gradientsOf(model, mixed);
    const want = await gradientsOf(model, { ...mixed, flowWeight: 0 });
    const plain = await gradientsOf(model, { name: "text", inputs, flowWeight: 0 });
    for (const [name, values] of plain) {
      if (!isUndSide(name)) continue;
      assert.ok(sameBits(got.get(name)!, want.get(name)!), name);
      if (/^vit\..*attn\.k\.bias$/.test(name)) continue; // rounding alone: softmax ignores a shift
      assertClose(got.get(name)!, values, ROUNDING, name);
    }
    const open = await gradientsOf(model, { name: "all", inputs });
    assert.ok(
      !sameBits(open.get("und.layers.0.attn.k.weight")!, got.get("und.layers.0.attn.k.weight")!),
    );
    model.dispose();
  },
);

Deno.test(
  "a step with a value that is not finite changes neither weights nor moments",
  GPU_TEST,
  async () => {
    for (const over of ["objective", "global", undefined] as const) {
      const model = smallModel(await testGpu());
      const optimizer = new AdamW(model.parameters, { weightDecay: 0.1 });
      const clip = over ? { clip: { maxNorm: 1, over } } : {};
      await step(model, optimizer, [textAt(0), flowAt(0)], clip);
      const moments = async () => {
        const list = [...optimizer.state].flatMap(([name, { m, v }]) =>
          [[`${name}/m`, m], [`${name}/v`, v]] as const
        );
        const values = await readAll(list.map(([, tensor]) => tensor));
        return new Map(list.map(([name], i) => [name, values[i] as Float32Array]));
      };
      const before = [await weightsOf(model), await moments()];
      const broken = flowAt(1);
      broken.inputs.latents![5] = Infinity;
      const metrics = await step(model, optimizer, [textAt(1), broken], clip);
      assert.ok(Number.isFinite(metrics.text) && !Number.isFinite(metrics.flow));
      assert.ok(Number.isNaN(metrics.finite));
      assert.deepEqual(differing(await weightsOf(model), before[0]), []);
      assert.deepEqual(differing(await moments(), before[1]), []);
      const good = await step(model, optimizer, [textAt(2), flowAt(2)], clip);
      assert.equal(good.finite, 1);
      assert.ok(differing(await weightsOf(model), before[0]).length > 100, "the next one does");
      optimizer.dispose();
      model.dispose();
    }
  },
);

Deno.test("the same start and batches give the same bits", GPU_TEST, async () => {
  const clip: Clip = { maxNorm: 0.5, over: "objective" };
  const [a, b] = [await trained("joint", clip), await trained("joint", clip)];
  assert.deepEqual(differing(a, b), []);
});

Deno.test("objectives weighted by their tokens add up to one packed batch", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const samples = [QUESTION, { plan: [seen(picture(7)), text(2), answer(3, 4, 5)] }];
  const inputs = samples.map((sample) => inputsOf([sample]));
  const counts = inputs.map(({ packed }) => packed.ceLossIndexes.length);
  const total = counts[0] + counts[1];
  assert.deepEqual(counts, [2, 4]);
  const firstMoments = async (objectives: Objective[]) => {
    const optimizer = new AdamW(model.parameters);
    await step(model, optimizer, objectives, { learningRate: 0 });
    const names = [...optimizer.state.keys()];
    const values = await readAll([...optimizer.state.values()].map(({ m }) => m));
    optimizer.dispose();
    return new Map(names.map((name, i) => [name, values[i] as Float32Array]));
  };
  const whole = await firstMoments([{ name: "text", inputs: inputsOf(samples) }]);
  const parts = await firstMoments(
    inputs.map((part, i) => ({ name: `part${i}`, inputs: part, textWeight: counts[i] / total })),
  );
  assert.deepEqual([...parts.keys()].sort(), [...whole.keys()].sort());
  for (const [name, values] of whole) {
    if (/^vit\..*attn\.k\.bias$/.test(name)) continue; // rounding alone: softmax ignores a shift
    assertClose(parts.get(name)!, values, ROUNDING, name);
  }
  model.dispose();
});

Deno.test("clipping brings the gradient's norm down to its bound", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const normOf = async (optimizer: AdamW, holds: (name: string) => boolean) => {
    const moments = [...optimizer.state].filter(([name]) => holds(name)).map(([, { m }]) => m);
    const values = await readAll(moments);
    let sum = 0;
    for (const list of values) for (const v of list) sum += (10 * v) ** 2; // m = (1 - 0.9) · g
    return Math.sqrt(sum);
  };
  const clipped = async (clip: Clip, objectives: Objective[]) => {
    const optimizer = new AdamW(model.parameters);
    const metrics = await step(model, optimizer, objectives, { learningRate: 0, clip });
    const norms = {
      all: await normOf(optimizer, () => true),
      und: await normOf(optimizer, isUndSide),
      gen: await normOf(optimizer, (name) => !isUndSide(name)),
    };
    optimizer.dispose();
    return { metrics, norms };
  };
  const close = (got: number, want: number) =>
    assert.ok(Math.abs(got - want) < 1e-3 * want, `${got}, expected ${want}`);
  const objectives = [textAt(0), flowAt(0, true)]; // disjoint weights
  const each = await clipped({ maxNorm: 0.25, over: "objective" }, objectives);
  close(each.norms.und, 0.25);
  close(each.norms.gen, 0.25);
  const shared = await clipped({ maxNorm: 0.25, over: "global" }, objectives);
  close(shared.norms.all, 0.25);
  close(
    Math.sqrt(shared.metrics.norm2),
    Math.hypot(
      Math.sqrt(shared.metrics["text/norm2"]),
      Math.sqrt(shared.metrics["flow/norm2"]),
    ),
  );
  const loose = await clipped({ maxNorm: 1e6, over: "objective" }, objectives);
  close(loose.norms.und, Math.sqrt(loose.metrics["text/norm2"]));
  model.dispose();
});
