import assert from "node:assert/strict";
import { noGrad } from "../../lib/autograd.ts";
import { prepareBatch } from "../../lib/model/batch.ts";
import { saveModel } from "../../lib/model/checkpoint.ts";
import { openCheckpoint } from "../../lib/model/checkpoint_folder.ts";
import { uploadTensor } from "../../lib/model/device_weights.ts";
import { attachLora, detachLora, loraNames } from "../../lib/model/lora.ts";
import { quantizeCheckpoint } from "../../lib/model/quantize.ts";
import { UniMedVL } from "../../lib/model/unimedvl.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { adapterOf } from "../../lib/ops/adapter.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { runObjective } from "../../lib/train/objective.ts";
import { trainStep } from "../../lib/train/step.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import { modelFolder } from "../infer/model_folder.ts";
import {
  addAdapters,
  drawAdapters,
  EVERYWHERE,
  INPUTS,
  lossesAndGradients,
} from "./lora_models.ts";
import { differing, SMALL, smallModel, valuesOf, weightsOf } from "./small.ts";

/** f32 sums in another order, through two layers and back. */
const ROUNDING = 2e-5;

const plainPass = async (model: UniMedVL) => {
  const [text, flow] = tidy(() =>
    noGrad(() => {
      const out = model.forward(prepareBatch(model.gpu, model.config, INPUTS));
      return [out.textLoss!, out.flowLoss!];
    })
  );
  const values = await valuesOf([["text", text], ["flow", flow]]);
  for (const t of [text, flow]) t.dispose();
  return values;
};

Deno.test(
  "attachLora() freezes all but the adapters of the layers that patterns name",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const info = attachLora(model, {
      rank: 3,
      alpha: 6,
      targets: ["und.layers.1.attn", "{und,gen}.layers.0.mlp.down", "latent.out"],
    });
    assert.deepEqual(info.layers.map(({ name }) => name), [
      "und.layers.0.mlp.down",
      ..."qkvo".split("").map((part) => `und.layers.1.attn.${part}`),
      "gen.layers.0.mlp.down",
      "latent.out",
    ]);
    const trainable = [...model.parameters.entries()].filter(([, t]) => t.requiresGrad);
    const names = info.layers.flatMap(({ name }) => Object.values(loraNames(name)));
    assert.deepEqual(trainable.map(([name]) => name), names);
    assert.equal(info.parameters, trainable.reduce((n, [, t]) => n + t.size, 0));
    assert.equal(info.bytes, 4 * info.parameters);
    assert.equal(adapterOf(model.parameters.get("latent.out.weight"))!.scale, 2);
    model.dispose();
  },
);

Deno.test(
  "adapters just attached change no bit of a pass, nor do adapters taken off",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const live = model.gpu.buffers.liveCount;
    const before = await plainPass(model);
    attachLora(model, { rank: 4, alpha: 8, targets: EVERYWHERE });
    assert.deepEqual(differing(await plainPass(model), before), []);
    drawAdapters(model);
    assert.deepEqual(differing(await plainPass(model), before), ["text", "flow"]);
    detachLora(model);
    assert.deepEqual(differing(await plainPass(model), before), []);
    assert.equal(model.gpu.buffers.liveCount, live);
    assert.equal(model.lora, undefined);
    model.dispose();
  },
);

Deno.test(
  "two models with one seed get the same adapters, another seed gives others",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const made = [0, 0, 1].map((seed) => {
      const model = smallModel(gpu);
      attachLora(model, { rank: 4, alpha: 8, targets: ["und.layers.0.attn.q"], seed });
      return model;
    });
    const [a, b, c] = await Promise.all(made.map((model) => weightsOf(model)));
    assert.deepEqual(differing(a, b), []);
    assert.deepEqual(differing(a, c), ["lora.und.layers.0.attn.q.a"]);
    const values = a.get("lora.und.layers.0.attn.q.a")!;
    const square = values.reduce((sum, v) => sum + v * v, 0) / values.length;
    assert.ok(Math.abs(square * 32 - 1) < 0.35, `variance ${square} of 1/32`);
    for (const model of made) model.dispose();
  },
);

Deno.test(
  "losses and gradients are those of weights W + (α/r) B A, for every linear layer",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [adapted, explicit] = [smallModel(gpu), smallModel(gpu)];
    const [rank, alpha] = [3, 4];
    attachLora(adapted, { rank, alpha, targets: EVERYWHERE });
    drawAdapters(adapted);
    await addAdapters(adapted, explicit);
    const [got, want] = [await lossesAndGradients(adapted), await lossesAndGradients(explicit)];
    const weights = await weightsOf(adapted);
    for (const name of ["text", "flow"]) {
      assertClose(got.get(name)!, want.get(name)!, ROUNDING, name);
    }
    assert.equal(got.size, 2 + 2 * adapted.lora!.layers.length, "nothing else has a gradient");
    for (const { name, outputs, inputs } of adapted.lora!.layers) {
      const names = loraNames(name);
      const [a, b] = [weights.get(names.a)!, weights.get(names.b)!];
      const dw = want.get(`${name}.weight`)!; // dA = (α/r) Bᵀ dW, dB = (α/r) dW Aᵀ
      const da = new Float64Array(a.length), db = new Float64Array(b.length);
      for (let i = 0; i < outputs; i++) {
        for (let j = 0; j < inputs; j++) {
          const d = alpha / rank * dw[i * inputs + j];
          for (let k = 0; k < rank; k++) {
            da[k * inputs + j] += b[i * rank + k] * d;
            db[i * rank + k] += a[k * inputs + j] * d;
          }
        }
      }
      assertClose(got.get(names.a)!, da, 1e-4, names.a);
      assertClose(got.get(names.b)!, db, 1e-4, names.b);
    }
    for (const model of [adapted, explicit]) model.dispose();
  },
);

Deno.test("training adapters is training A and B of W + (α/r) B A", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [adapted, explicit] = [smallModel(gpu), smallModel(gpu)];
  const targets = ["und.layers.*.attn", "gen.layers.1.mlp", "vit.layers.0.mlp.fc1"];
  const [rank, alpha] = [2, 4];
  attachLora(adapted, { rank, alpha, targets });
  const { layers } = adapted.lora!;
  const start = await weightsOf(adapted);
  const low = new Parameters();
  for (const { name } of layers) {
    for (const own of Object.values(loraNames(name))) {
      const { shape } = adapted.parameters.get(own);
      low.add(own, Tensor.from(gpu, start.get(own)!, shape));
    }
  }
  const [optimizer, other] = [
    new AdamW(adapted.parameters, { epsilon: 1e-6 }),
    new AdamW(low, { epsilon: 1e-6 }),
  ];
  const learningRate = 1e-2;
  for (let step = 0; step < 5; step++) {
    const objective = { name: "all", inputs: INPUTS };
    const metrics = trainStep(adapted, optimizer, [objective], { learningRate });
    const got = await valuesOf(metrics);
    for (const t of metrics.values()) t.dispose();

    const values = await valuesOf(low.entries());
    for (const { name, outputs, inputs } of layers) {
      const [a, b] = Object.values(loraNames(name)).map((own) => values.get(own)!);
      const sum = start.get(`${name}.weight`)!.slice();
      for (let at = 0; at < sum.length; at++) {
        for (let k = 0; k < rank; k++) {
          sum[at] += alpha / rank * b[Math.floor(at / inputs) * rank + k] *
            a[k * inputs + at % inputs];
        }
      }
      assert.equal(sum.length, outputs * inputs);
      explicit.parameters.get(`${name}.weight`).write(sum);
    }
    const { text, flow, dweights } = await meanGradients(explicit);
    assertClose(got.get("text")!, text, ROUNDING, `text loss of step ${step}`);
    assertClose(got.get("flow")!, flow, ROUNDING, `flow loss of step ${step}`);
    const gradients = new Map<Tensor, Tensor>();
    for (const { name, outputs, inputs } of layers) {
      const names = loraNames(name);
      const [a, b] = [values.get(names.a)!, values.get(names.b)!];
      const da = new Float32Array(a.length), db = new Float32Array(b.length);
      const dw = dweights.get(`${name}.weight`)!;
      for (let i = 0; i < outputs; i++) {
        for (let j = 0; j < inputs; j++) {
          for (let k = 0; k < rank; k++) {
            const d = alpha / rank * dw[i * inputs + j];
            da[k * inputs + j] += b[i * rank + k] * d;
            db[i * rank + k] += a[k * inputs + j] * d;
          }
        }
      }
      gradients.set(low.get(names.a), Tensor.from(gpu, da, [rank, inputs]));
      gradients.set(low.get(names.b), Tensor.from(gpu, db, [outputs, rank]));
    }
    tidy(() => {
      const factor = Tensor.from(gpu, [1], [1]);
      const collected = other.collect(gradients);
      other.step(
        new Map([...collected].map(([group, g]) => [group, { ...g, factor }])),
        learningRate,
      );
    });
  }
  const [got, want] = [await weightsOf(adapted), await valuesOf(low.entries())];
  for (const [name, values] of want) assertClose(got.get(name)!, values, 2e-3, name);
  const untouched = new Map([...start].filter(([name]) => !name.startsWith("lora.")));
  const after = new Map([...got].filter(([name]) => !name.startsWith("lora.")));
  assert.deepEqual(differing(after, untouched), [], "the base is as it was");
  for (const t of [optimizer, other, low, adapted, explicit]) t.dispose();
});

/** Mean losses and their gradients, as a step takes them. */
async function meanGradients(model: UniMedVL) {
  const { text, flow, gradients } = tidy(() => {
    const { text, flow, gradients } = runObjective(model, { name: "all", inputs: INPUTS });
    return { text: text!, flow: flow!, gradients };
  });
  const losses = await valuesOf([["text", text], ["flow", flow]]);
  const named = [...model.parameters.entries()].flatMap(([name, t]) => {
    const d = gradients.get(t);
    return d ? [[name, d] as const] : [];
  });
  const dweights = await valuesOf(named);
  for (const t of [text, flow, ...gradients.values()]) t.dispose();
  return { text: losses.get("text")!, flow: losses.get("flow")!, dweights };
}

Deno.test(
  "over an int4 or int8 base gradients are those over its unpacked weights",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await modelFolder(gpu);
    try {
      for (const to of ["int4", "int8"] as const) {
        const folder = `${dir}/${to}`;
        await quantizeCheckpoint(dir, folder, { to });
        const checkpoint = await openCheckpoint(folder);
        const [packed, plain] = [new Parameters(), new Parameters()];
        for (const stored of checkpoint.tensors.values()) {
          packed.add(stored.ours, await uploadTensor(gpu, checkpoint, stored), false);
          const values = await checkpoint.readFloat32(stored);
          plain.add(stored.ours, Tensor.from(gpu, values, stored.shape), false);
        }
        checkpoint.close();
        assert.equal(packed.get("und.layers.0.attn.q.weight").dtype, to);
        const results = [];
        for (const parameters of [packed, plain]) {
          const model = new UniMedVL(gpu, SMALL, parameters);
          attachLora(model, { rank: 4, alpha: 8, targets: EVERYWHERE });
          drawAdapters(model);
          results.push(await lossesAndGradients(model));
          model.dispose();
        }
        const [got, want] = results;
        assert.deepEqual([...got.keys()], [...want.keys()]);
        for (const [name, values] of want) {
          assertClose(got.get(name)!, values, 1e-4, `${name} over ${to}`);
        }
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);

Deno.test(
  "attachLora() refuses what it cannot attach, and names the nearest layer",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const refused = (options: object, message: RegExp, help?: RegExp) => {
      const all = { rank: 4, alpha: 8, targets: ["und"], ...options };
      assert.throws(() => attachLora(model, all), (error: Error & { help: string }) => {
        assert.equal(error.name, "UsageError");
        assert.match(error.message, message);
        if (help) assert.match(error.help, help);
        return true;
      });
    };
    refused({ rank: 0 }, /^Cannot attach adapters with rank 0$/, /whole number from 1/);
    refused({ rank: 2.5 }, /rank 2\.5/);
    refused({ alpha: NaN }, /alpha NaN/);
    refused({ alpha: -1 }, /alpha -1/);
    refused({ targets: [] }, /no targets/);
    refused(
      { targets: ["und.layers.*.attn.w"] },
      /no name begins so/,
      /^did you mean und\.layers\.\*\.attn\./,
    );
    refused(
      { targets: ["und.layers.0.attn.norm"] },
      /^Cannot adapt und\.layers\.0\.attn\.norm: .* is no matrix of a linear layer$/,
    );
    refused({ targets: ["text.embed"] }, /text\.embed\.weight is no matrix of a linear layer/);
    assert.ok(
      [...model.parameters.entries()].some(([, t]) => t.requiresGrad),
      "nothing was frozen",
    );
    attachLora(model, { rank: 1, alpha: 1, targets: ["und"] });
    refused({}, /the model has some already/, /detachLora/);
    await assert.rejects(saveModel(model, "/tmp/never-written.safetensors"), {
      name: "UsageError",
      message: /the model has adapters besides its weights/,
    });
    model.dispose();
  },
);
