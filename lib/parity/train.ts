// Training against a fixture: every loss and the gradient of every parameter on one packed batch, then
// optimizer steps on that batch.

import { patchify } from "../data/patches.ts";
import type { PackedBatch } from "../data/pack.ts";
import type { Gpu } from "../gpu/device.ts";
import { loadAutoencoder } from "../model/autoencoder_weights.ts";
import { type ModelInputs, prepareBatch, shiftTimesteps } from "../model/batch.ts";
import { loadModel } from "../model/checkpoint.ts";
import { latentSize, type UniMedVLConfig } from "../model/config.ts";
import { readConfig } from "../model/read_config.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { nameFromReference, nameInReference } from "../model/weights.ts";
import { noGrad } from "../autograd.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";
import { AdamW } from "../train/adamw.ts";
import { type Objective, runObjective } from "../train/objective.ts";
import { trainStep } from "../train/step.ts";
import { readTrainBatch } from "./batch.ts";
import { compareFloat, type Fixture, type Row } from "./compare.ts";

const BATCH = "train_batch.safetensors";
const GRADS = "train_grads.safetensors";
const STEPS = "train_steps.safetensors";

interface Setup {
  config: UniMedVLConfig;
  model: UniMedVL;
  objective: Objective;
}

/** The fixture's model and its batch as one objective, latents encoded as the reference does. */
async function setUp(gpu: Gpu, fixture: Fixture, rows?: Row[]): Promise<Setup> {
  const config = await readConfig(fixture.dir);
  const { model } = await loadModel(gpu, config, `${fixture.dir}/model.safetensors`);
  const packed = await readTrainBatch(fixture);
  const { ce_weight, mse_weight } = await fixture.json("train.json");
  const latents = await encodeBatch(gpu, fixture, config, packed, rows);
  const timesteps = shiftTimesteps(packed.timesteps, config.timestepShift);
  if (rows) rows.push(await fixture.compare(BATCH, "timesteps_shifted", timesteps));
  const noise = await fixture.float(BATCH, "flow_noise");
  const inputs: ModelInputs = { packed, latents, noise, timesteps };
  const objective: Objective = {
    name: "all",
    inputs,
    textWeight: ce_weight,
    flowWeight: mse_weight,
  };
  return { config, model, objective };
}

/** All padded images through the encoder together, then cut to each image's own tokens. */
async function encodeBatch(
  gpu: Gpu,
  fixture: Fixture,
  config: UniMedVLConfig,
  packed: PackedBatch,
  rows?: Row[],
): Promise<Float32Array> {
  if (config.latent.kind !== "autoencoder") {
    throw new Error("internal: fixtures have an autoencoder");
  }
  const path = `${fixture.dir}/ae.safetensors`;
  const vae = await loadAutoencoder(gpu, config.latent.autoencoder, path);
  const images = await fixture.tensor(BATCH, "padded_images");
  const noise = await fixture.tensor(BATCH, "vae_noise");
  const encoded = tidy(() =>
    noGrad(() =>
      vae.encode(
        Tensor.from(gpu, images.data as Float32Array, images.shape),
        Tensor.from(gpu, noise.data as Float32Array, noise.shape),
      )
    )
  );
  const latent = await encoded.floats();
  const [, channels, height, width] = encoded.shape;
  encoded.dispose();
  vae.dispose();
  if (rows) rows.push(await fixture.compare(BATCH, "padded_latent", latent));
  const out = new Float32Array(packed.vaeTokenIndexes.length * latentSize(config));
  let at = 0;
  packed.latentShapes.forEach(([h, w], i) => {
    const size = channels * height * width;
    const plane = latent.subarray(i * size, (i + 1) * size);
    const grid = { rows: h, cols: w };
    const tokens = patchify(plane, height, width, config.latentPatchSize, grid);
    out.set(tokens, at);
    at += tokens.length;
  });
  return out;
}

/** Losses per token and hidden states, then the gradient of every parameter. */
export async function checkTrain(gpu: Gpu, fixture: Fixture): Promise<Row[]> {
  const rows: Row[] = [];
  const { model, objective } = await setUp(gpu, fixture, rows);
  rows.push(...await checkForward(gpu, fixture, model, objective));

  const result = tidy(() => runObjective(model, objective));
  const { text, flow, total, gradients } = result;
  for (const [name, tensor] of [["ce", text], ["mse", flow], ["total_loss", total]] as const) {
    if (tensor) rows.push(await fixture.compare(BATCH, name, await tensor.floats()));
  }
  rows.push(...await compareGradients(fixture, model, gradients));
  for (const gradient of gradients.values()) gradient.dispose();
  for (const tensor of [text, flow, total]) tensor?.dispose();
  model.dispose();
  return rows.map((row) => ({ ...row, case: row.case || "batch" }));
}

/** Every gradient of the fixture; a weight the losses do not reach has zeros there and none here. */
async function compareGradients(
  fixture: Fixture,
  model: UniMedVL,
  gradients: ReadonlyMap<Tensor, Tensor>,
): Promise<Row[]> {
  const got = new Map<string, Tensor>();
  for (const [name, weight] of model.parameters.entries()) {
    const gradient = gradients.get(weight);
    if (gradient) got.set(nameInReference(name), gradient);
  }
  const values = await readAll([...got.values()]);
  const read = new Map([...got.keys()].map((name, i) => [name, values[i] as Float32Array]));
  const rows: Row[] = [];
  const compared = { case: "gradient", error: Infinity, tolerance: 0, ok: false };
  for (const tensor of fixture.names(GRADS)) {
    const ours = nameFromReference(tensor);
    const weight = ours && model.parameters.find(ours);
    if (!weight) rows.push({ ...compared, tensor, note: "the model has no such weight" });
    else {
      const value = read.get(tensor) ?? new Float32Array(weight.size);
      rows.push({ ...await fixture.compare(GRADS, tensor, value), case: "gradient", tensor });
    }
    read.delete(tensor);
  }
  for (const [tensor, value] of read) {
    if (value.some((v) => v !== 0)) rows.push({ ...compared, tensor, note: "not in the fixture" });
  }
  return rows;
}

async function checkForward(
  gpu: Gpu,
  fixture: Fixture,
  model: UniMedVL,
  objective: Objective,
): Promise<Row[]> {
  const { packed } = objective.inputs;
  const made = tidy(() =>
    noGrad(() => {
      const batch = prepareBatch(gpu, model.config, objective.inputs);
      const out = model.forward(batch, { allHidden: true });
      return { out, und: batch.undIndexes, gen: batch.genIndexes };
    })
  );
  const { out, und, gen } = made;
  const read = async (t: Tensor | undefined) => t ? await t.floats() : new Float32Array();
  const width = model.config.language.hiddenSize;
  const inPackedOrder = async (streams: typeof out.hidden) => {
    const full = new Float32Array(packed.sequenceLength * width);
    for (const [indexes, part] of [[und, streams.und], [gen, streams.gen]] as const) {
      const values = await read(part);
      indexes.forEach((position, i) =>
        full.set(values.subarray(i * width, (i + 1) * width), position * width)
      );
    }
    return full;
  };
  const ce = await read(out.textLoss);
  const predicted = await read(out.velocity);
  const squared = squaredError(predicted, objective.inputs, latentSize(model.config));
  const weights = packed.ceLossWeights;
  const sumOfWeights = weights.reduce((a, b) => a + b, 0);
  const reweighted = ce.reduce((sum, loss, i) => sum + loss * weights[i], 0) / sumOfWeights;
  const rows = [
    await fixture.compare(BATCH, "packed_sequence", await inPackedOrder(out.inputs)),
    await fixture.compare(BATCH, "last_hidden_state", await inPackedOrder(out.hidden)),
    await fixture.compare(BATCH, "ce_logits", await read(out.logits)),
    await fixture.compare(BATCH, "ce_per_token", ce),
    await fixture.compare(BATCH, "ce_reweighted", [reweighted]),
    await fixture.compare(BATCH, "mse_preds", predicted),
    await fixture.compare(BATCH, "mse_per_element", squared),
  ];
  for (const t of [out.textLoss, out.velocity, out.logits, out.flowLoss]) t?.dispose();
  for (const t of [...Object.values(out.inputs), ...Object.values(out.hidden)]) t?.dispose();
  return rows;
}

/** (prediction − (noise − latent))² per element: the model itself only keeps the mean over channels. */
function squaredError(predicted: Float32Array, inputs: ModelInputs, width: number): Float32Array {
  const { latents, noise, packed } = inputs;
  return predicted.map((v, i) => {
    const at = packed.mseRows[Math.floor(i / width)] * width + i % width;
    return (v - (noise![at] - latents![at])) ** 2;
  });
}

/** The fixture's optimizer steps on its one batch: losses, norms, weights and averages. */
export async function checkSteps(gpu: Gpu, fixture: Fixture): Promise<Row[]> {
  const rows: Row[] = [];
  const { model, objective } = await setUp(gpu, fixture);
  const settings = await fixture.json("train_steps.json");
  const optimizer = new AdamW(model.parameters, {
    beta1: settings.betas[0],
    beta2: settings.betas[1],
    epsilon: settings.eps,
    weightDecay: settings.weight_decay,
    emaDecay: settings.ema_decay,
  });
  const relative = 1e-4; // the fixture's own bound on losses along the steps
  const check = (name: string, got: number, want: number) =>
    rows.push(compareFloat(name, [got], [want], 0, relative));
  let sumOfRates = 0;
  for (const step of settings.steps) {
    const metrics = trainStep(model, optimizer, [objective], {
      learningRate: step.lr,
      clip: { maxNorm: settings.max_grad_norm, over: "global" },
    });
    const names = [...metrics.keys()];
    const values = await readAll([...metrics.values()]);
    const value = (name: string) => values[names.indexOf(name)][0];
    check(`step${step.step}/ce`, value("text"), step.ce);
    check(`step${step.step}/mse`, value("flow"), step.mse);
    check(`step${step.step}/grad_norm`, Math.sqrt(value("norm2")), step.grad_norm_before_clip);
    for (const tensor of metrics.values()) tensor.dispose();
    sumOfRates += step.lr;
  }
  const final = tidy(() => runObjective(model, objective));
  check("final/ce", (await final.text!.floats())[0], settings.final.ce);
  check("final/mse", (await final.flow!.floats())[0], settings.final.mse);
  for (const t of [final.text, final.flow, final.total, ...final.gradients.values()]) t?.dispose();
  for (const [name, tensor] of model.parameters.entries()) {
    for (const [kind, source] of [["param", tensor], ["ema", optimizer.ema.get(name)]] as const) {
      const key = `${kind}/${nameInReference(name)}`;
      if (!fixture.names(STEPS).includes(key) || !source) continue;
      rows.push(await compareSteps(fixture, key, await source.floats(), sumOfRates));
    }
  }
  optimizer.dispose();
  model.dispose();
  return rows;
}

/**
 * AdamW divides by √v + 1e-15, so an element whose gradient is rounding noise moves by a whole learning
 * rate in a random direction: 99 % of elements must agree, the rest within twice the way they can go.
 */
async function compareSteps(
  fixture: Fixture,
  name: string,
  got: Float32Array,
  sumOfRates: number,
): Promise<Row> {
  const want = await fixture.float(STEPS, name);
  const atol = fixture.atolOf(STEPS, name);
  const errors = got.map((v, i) => Math.abs(v - want[i]));
  const outside = errors.filter((e, i) => !(e <= atol + fixture.rtol * Math.abs(want[i])));
  const loose = compareFloat(name, got, want, 2 * sumOfRates, 0);
  if (outside.length > 0.01 * got.length) return compareFloat(name, got, want, atol, fixture.rtol);
  return outside.length > 0 ? loose : compareFloat(name, got, want, atol, fixture.rtol);
}
