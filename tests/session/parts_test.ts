// The trainings of single parts: resumed to the same bits, and the folders that come of them.

import assert from "node:assert/strict";
import { ImageStream } from "../../lib/data/training/image_stream.ts";
import { openPhantoms } from "../../lib/data/training/phantom_source.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { openCheckpoint } from "../../lib/model/checkpoint_folder.ts";
import { loadAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { openTrainModel } from "../../lib/session/model.ts";
import {
  type Part,
  type PartOptions,
  type PartStep,
  trainPart,
} from "../../lib/session/part_training.ts";
import { partCourse } from "../../lib/session/part_course.ts";
import { splitText, vocabularyOf } from "../../lib/session/part_data.ts";
import { saveVaeFolder, VAE_DEFAULTS, VaePart, type VaeSettings } from "../../lib/session/vae.ts";
import { saveVitFolder, VIT_DEFAULTS, VitPart, type VitSettings } from "../../lib/session/vit.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { autoencoderLoss } from "../../lib/train/autoencoder_training.ts";
import { readManifest } from "../../lib/train/checkpoint/manifest.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { mul } from "../../lib/ops/mul.ts";
import { sum } from "../../lib/ops/sum.ts";
import { scale } from "../../lib/ops/unary.ts";
import { Tensor } from "../../lib/tensor.ts";
import { openSnapshot } from "../../lib/train/checkpoint/open.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import { inFolder, shortSettings } from "./small_runs.ts";

const VAE: VaeSettings = {
  ...VAE_DEFAULTS,
  size: 16,
  batch: 2,
  steps: 3,
  warmup: 1,
  chMult: [1, 1],
  heldOut: 2,
  statistics: 2,
  lookEvery: 0,
  saveEvery: 100,
};
const VIT: VitSettings = {
  ...VIT_DEFAULTS,
  batch: 4,
  steps: 5,
  warmup: 1,
  width: 8,
  heldOut: 8,
  lookEvery: 2,
  saveEvery: 100,
};
const source = () => openPhantoms("phantoms?count=400");
const origins = {};

/** Trains until `until` updates are made, as Ctrl-C would stop it. */
async function trainTo(
  part: Part & { dispose(): void },
  values: VaeSettings | VitSettings,
  options: PartOptions,
  until = Infinity,
): Promise<PartStep[]> {
  const gpu = await testGpu();
  const stop = new AbortController();
  const steps: PartStep[] = [];
  const looked: Part = {
    ...bound(part),
    batch: (step) => {
      if (step + 1 >= until) stop.abort(new Error("enough"));
      return part.batch(step);
    },
  };
  const signal = stop.signal;
  try {
    for await (const step of trainPart(gpu, looked, { values, origins }, { ...options, signal })) {
      steps.push(step);
    }
  } finally {
    part.dispose();
  }
  return steps;
}

const bound = (part: Part): Part => ({
  parameters: part.parameters,
  dataSha256: part.dataSha256,
  ...(part.split ? { split: part.split } : {}),
  texts: part.texts,
  batch: (step) => part.batch(step),
  look: () => part.look(),
  takeBad: () => part.takeBad(),
});

/** Digests of a checkpoint's files, and the metrics that must repeat. */
async function leftBehind(run: string, step: number) {
  const name = `step-${String(step).padStart(7, "0")}`;
  const { files } = await readManifest(`${run}/checkpoints/${name}`);
  const { metrics } = readRun(run);
  const rows = Object.entries(metrics).filter(([key]) => key !== "seconds");
  return {
    digests: files.map(({ name, sha256 }) => `${name} ${sha256}`),
    rows: Object.fromEntries(rows),
  };
}

Deno.test(
  "an image encoder's training resumed at any update ends in the same bits",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      await trainTo(await VitPart.open(gpu, VIT, source()), VIT, { run: whole });
      const want = await leftBehind(whole, 5);
      assert.ok(want.rows["held-out/image-to-text"], "held-out recall is logged");
      assert.deepEqual(want.rows["held-out/loss"].steps, [2, 4, 5]);
      const run = `${dir}/study/cut/seed-0`;
      for (const until of [2, 3, Infinity]) {
        const part = await VitPart.open(gpu, VIT, source());
        const steps = await trainTo(part, VIT, { run, resume: true }, until);
        assert.equal(steps.at(-1)?.number, Math.min(until, 5));
      }
      const got = await leftBehind(run, 5);
      assert.deepEqual(got, want);
      const { sessions } = readRun(run);
      assert.deepEqual(sessions.map(({ reason }) => reason), [
        "Error: enough",
        "Error: enough",
        "finished",
      ]);
      await assert.rejects(
        trainTo(await VitPart.open(gpu, VIT, source()), VIT, { run }),
        /this run exists/,
      );
      const changed = { ...VIT, learningRate: 1 };
      await assert.rejects(
        trainTo(await VitPart.open(gpu, changed, source()), changed, { run, resume: true }),
        /learningRate 0.001 → 1/,
      );
    });
  },
);

Deno.test(
  "an autoencoder's training resumes to the same bits, and its folder is a model's",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      await trainTo(await VaePart.open(gpu, VAE, source()), VAE, { run: whole });
      const run = `${dir}/study/cut/seed-0`;
      await trainTo(await VaePart.open(gpu, VAE, source()), VAE, { run, resume: true }, 1);
      const part = await VaePart.open(gpu, VAE, source());
      const folder = `${dir}/model`;
      const save = part.dispose.bind(part);
      part.dispose = () => {};
      await trainTo(part, VAE, { run, resume: true });
      const want = await leftBehind(whole, 3);
      assert.deepEqual(await leftBehind(run, 3), want);
      assert.ok(want.rows["held-out/psnr"], "held-out PSNR is logged");
      const course = partCourse(readRun(run));
      assert.deepEqual(course.loss.steps, [1, 2, 3]);
      assert.deepEqual(course.loss.heldOut, want.rows["held-out/loss"]);
      assert.deepEqual(course.measures, [{ name: "PSNR", ...want.rows["held-out/psnr"] }]);
      assert.match(
        course.split!,
        /^images: \d+ to train on, \d+ held out, 2 of these are looked at$/,
      );
      assert.deepEqual(
        [...Deno.readDirSync(`${run}/samples`)].map(({ name }) => name),
        ["step-0000003.png"],
      );

      const words = await vocabularyOf(source(), 128);
      const factors = await saveVaeFolder(folder, part, VAE, words);
      const checkpoint = await openCheckpoint(folder);
      const { config } = checkpoint;
      checkpoint.close();
      assert.ok(config.latent.kind === "autoencoder");
      assert.equal(config.latent.autoencoder.scaleFactor, factors.scaleFactor);
      const stored = await loadAutoencoder(
        gpu,
        config.latent.autoencoder,
        `${folder}/ae.safetensors`,
      );
      const name = "decoder.conv_out.weight";
      assert.deepEqual(
        await stored.parameters.get(name).floats(),
        await part.parameters.get(name).floats(),
      );
      stored.dispose();
      save();

      // An image encoder trained over that folder keeps its autoencoder; both kinds of opening take the result.
      const vit = { ...VIT, base: folder, steps: 1 };
      const over = await VitPart.open(gpu, vit, source());
      await saveVitFolder(`${dir}/both`, over, vit);
      over.dispose();
      const trained = await openTrainModel(
        gpu,
        shortSettings(`model.checkpoint=${dir}/both`).values,
      );
      assert.deepEqual(trained.autoencoder?.config, config.latent.autoencoder);
      trained.dispose();
      const model = await openModel(gpu, `${dir}/both`);
      model.dispose();
    });
  },
);

Deno.test(
  "among few held-out pairs recall is not measured, and that is said",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const few = await VitPart.open(gpu, { ...VIT, heldOut: 3 }, source());
    assert.deepEqual(Object.keys((await few.look()).metrics), ["loss"]);
    assert.deepEqual(few.warnings, [
      "recall will not be measured: among 3 held-out pairs it says little, a blind choice has 0.33; " +
      "heldOut is 3, set it to 8 or more",
    ]);
    few.dispose();
    const enough = await VitPart.open(gpu, { ...VIT, batch: 8 }, source());
    const { metrics } = await enough.look();
    assert.deepEqual(Object.keys(metrics), ["loss", "image-to-text", "text-to-image", "chance"]);
    assert.equal(metrics.chance, 1 / 8);
    assert.deepEqual(enough.warnings, []);
    const lossOf = async (batch: number, heldOut: number) => {
      const part = await VitPart.open(gpu, { ...VIT, batch, heldOut }, source());
      const { metrics: { loss } } = await part.look();
      part.dispose();
      return loss;
    };
    const halves = await lossOf(4, 8);
    assert.ok(metrics.loss > halves && halves > 0, "more pairs at a time have more mismatches");
    assert.equal(await lossOf(4, 11), halves, "a rest that is no whole batch is left out");
    enough.dispose();
  },
);

Deno.test(
  "the held-out loss of an autoencoder is that of a batch without noise",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const reconstruction of ["mse", "l1"] as const) {
      const values = { ...VAE, heldOut: 3, reconstruction, klWeight: 0.5 };
      const part = await VaePart.open(gpu, values, source());
      const { metrics: { loss }, picture } = await part.look();
      assert.equal(picture!.kind, "held out above, reconstructed below");
      const stream = await ImageStream.open(source(), {
        ...{ size: 16, seed: 0, texts: false, heldOut: 3 },
      });
      const data = new Float32Array(3 * 768);
      stream.heldOut.forEach(({ image }, i) => data.set(image.data, i * 768));
      const noise = Tensor.from(gpu, new Float32Array(3 * 4 * 64), [3, 4, 8, 8]);
      const { total } = autoencoderLoss(
        part.autoencoder,
        Tensor.from(gpu, data, [3, 3, 16, 16]),
        noise,
        { reconstruction, klWeight: 0.5 },
      );
      assertClose([loss], [...await total.floats()], 1e-5, reconstruction);
      part.dispose();
    }
  },
);

/** Learns one row of weights by `Σ (w x)²`; the batches' factors x are given. */
async function rowPart(factors: number[], bad: string[] = []): Promise<Part & { dispose(): void }> {
  const gpu = await testGpu();
  const parameters = new Parameters();
  parameters.add("w", Tensor.from(gpu, [1, 2, 3], [3]));
  const w = parameters.get("w");
  return {
    parameters,
    dataSha256: "0",
    texts: {},
    batch: (step) =>
      Promise.resolve(() => {
        const y = scale(w, factors[step]);
        return { total: sum(mul(y, y)), shown: {} };
      }),
    look: () => Promise.resolve({ metrics: {} }),
    takeBad: () => bad.splice(0),
    dispose: () => {},
  };
}

Deno.test(
  "an update that is not finite changes nothing and ends the run with 5",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const values = { ...VAE, steps: 4, saveEvery: 2 };
      const run = `${dir}/study/arm/seed-0`;
      const part = await rowPart([1, 1, NaN, 1]);
      await assert.rejects(trainTo(part, values, { run }), {
        name: "NumericsError",
        message:
          "Cannot go on: at step 3 the loss is NaN, the gradient's norm NaN; nothing was changed by it",
      });
      const left = await part.parameters.get("w").floats();
      const twin = await rowPart([1, 1, 1, 1], ["a.png is cut off"]);
      await trainTo(twin, values, { run: `${dir}/study/twin/seed-0` }, 2);
      const { events } = readRun(`${dir}/study/twin/seed-0`);
      const leftOut = events.filter(({ kind }) => kind === "bad record");
      assert.deepEqual(leftOut.map(({ detail }) => detail), [{ message: "a.png is cut off" }]);
      assert.deepEqual(left, await twin.parameters.get("w").floats());
      assert.notEqual(left[0], 1);
      const { sessions, checkpoints } = readRun(run);
      assert.equal(sessions[0].exitCode, 5);
      assert.deepEqual(checkpoints.map(({ step }) => step), [2]);
      part.parameters.dispose();
      twin.parameters.dispose();
    });
  },
);

Deno.test("the gradient is clipped to a global norm, and 0 sets no limit", GPU_TEST, async () => {
  await inFolder(async (dir) => {
    const normOf = async (clip: number) => {
      const values = { ...VAE, steps: 1, warmup: 0, clip, weightDecay: 0 };
      const part = await rowPart([1]);
      const [step] = await trainTo(part, values, { run: `${dir}/study/clip-${clip}/seed-0` });
      const snapshot = await openSnapshot(
        `${dir}/study/clip-${clip}/seed-0/checkpoints/step-0000001`,
      );
      const m = await snapshot.file("optimizer.safetensors").readFloat32("m/w");
      snapshot.close();
      part.parameters.dispose();
      return [step.metrics.norm, Math.hypot(...m) / 0.1]; // the first moment is a tenth of the gradient
    };
    const full = 2 * Math.sqrt(14);
    assertClose(await normOf(0), [full, full], 1e-5, "no limit");
    assertClose(await normOf(1), [full, 1], 1e-5, "limit 1");
  });
});

Deno.test("splitText() says how many are trained on, held out and looked at", () => {
  const images = { unit: "images" as const, given: 27, heldOut: 8, looked: 8 };
  assert.equal(splitText(images), "images: 27 to train on, 8 held out");
  const some = "images: 27 to train on, 8 held out, 2 of these are looked at";
  assert.equal(splitText({ ...images, looked: 2 }), some);
  const large = { unit: "pairs" as const, given: null, heldOut: null, looked: 64 };
  assert.equal(splitText(large), "pairs: one in 8 is held out, 64 of these are looked at");
});

Deno.test("settings that make no sense are refused by name", GPU_TEST, async () => {
  const gpu = await testGpu();
  const vae = (change: Partial<VaeSettings>) => VaePart.open(gpu, { ...VAE, ...change }, source());
  await assert.rejects(vae({ size: 15 }), {
    name: "UsageError",
    message: "Cannot train with size 15",
    help: "set it to a multiple of 2: there are 2 levels",
  });
  await assert.rejects(vae({ reconstruction: "l2" }), { help: "it is mse or l1" });
  await assert.rejects(vae({ ch: 16 }), /ch is 16/);
  await assert.rejects(vae({ batch: 0.5 }), { message: "Cannot train with batch 0.5" });
  const vit = (change: Partial<VitSettings>) => VitPart.open(gpu, { ...VIT, ...change }, source());
  await assert.rejects(vit({ size: 40 }), {
    message: "Cannot train with size 40",
    help: "set it to a multiple of 8, at most 32: patches of the image encoder",
  });
  await assert.rejects(vit({ preset: "huge" }), { help: "it is tiny or small" });
  await assert.rejects(VitPart.open(gpu, VIT, openPhantoms("phantoms?count=4&seed=1")), {
    name: "InputError",
    message:
      "Cannot hold images with texts of phantoms?count=4&seed=1 out: it has 1 that can be read",
    help: "one in 8 is held out, of fewer than 32 a quarter; give at least 4",
  });
});
