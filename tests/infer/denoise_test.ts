import assert from "node:assert/strict";
import { normalNoise } from "../../lib/data/noise.ts";
import { denormalize } from "../../lib/data/transforms.ts";
import { WORD_IDS } from "../../lib/data/words.ts";
import { CachePool, type Context } from "../../lib/infer/cache.ts";
import {
  denoise,
  type DenoiseOptions,
  type DenoiseStep,
  type DrawContexts,
} from "../../lib/infer/denoise.ts";
import { edit, generate, generateAll } from "../../lib/infer/generate.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { runPass } from "../../lib/infer/pass.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { picture, SMALL, smallModel, words } from "../model/small.ts";
import { autoencoderFolder } from "./autoencoder_folder.ts";
import { modelFolder } from "./model_folder.ts";

async function read(model: UniMedVL, context: Context, ...ids: number[]): Promise<void> {
  const blocks = [{ kind: "text" as const, ids: words(...ids) }];
  await runPass(model, WORD_IDS, [{ context, blocks }]);
}

/** Three contexts that differ, and the steps of a drawing with some of them. */
async function withContexts(
  work: (
    contexts: Required<DrawContexts>,
    draw: (contexts: DrawContexts, options: DenoiseOptions) => Promise<DenoiseStep[]>,
  ) => Promise<void>,
): Promise<void> {
  const model = smallModel(await testGpu());
  const pool = new CachePool(model.gpu, SMALL.language, 1024);
  const [main, withoutText, withoutImages] = [pool.context(), pool.context(), pool.context()];
  await read(model, main, 1, 2, 3);
  await read(model, withoutText, 1);
  await read(model, withoutImages, 2, 3);
  await work({ main, withoutText, withoutImages }, async (contexts, options) => {
    const steps: DenoiseStep[] = [];
    const noise = normalNoise(16 * 18, "denoise");
    const job = { contexts, noise, rows: 4, columns: 4 };
    await denoise(model, WORD_IDS, [job], {
      steps: 4,
      ...options,
      onStep: (step) => {
        steps.push({ ...step, latents: step.latents.slice() });
      },
    });
    return steps;
  });
  pool.dispose();
  model.dispose();
}

const passes = (steps: DenoiseStep[]) =>
  steps.map((s) => 1 + Number(s.withoutText !== undefined) + Number(s.withoutImages !== undefined));

Deno.test("a step passes once for each context that its guidance needs", GPU_TEST, async () => {
  await withContexts(async (contexts, draw) => {
    const { main, withoutText } = contexts;
    const all = { interval: [0, 1] as const, textGuidance: 4, imageGuidance: 2 };
    assert.deepEqual(passes(await draw(contexts, all)), [3, 3, 3]);
    assert.deepEqual(passes(await draw(contexts, { ...all, imageGuidance: 1 })), [2, 2, 2]);
    assert.deepEqual(
      passes(await draw(contexts, { ...all, textGuidance: 1 })),
      [1, 1, 1],
      "image guidance alone is ignored by the reference, which pays for it all the same",
    );
    const shifted = await draw(contexts, { ...all, interval: [0.8, 1] }); // t = 1, 0.857, 0.6
    assert.deepEqual(passes(shifted), [3, 3, 1]);
    const equal = { main, withoutText, withoutImages: main.fork() };
    assert.deepEqual(
      passes(await draw(equal, all)),
      [2, 2, 2],
      "no third pass when contexts are equal",
    );
    assert.deepEqual(passes(await draw({ main, withoutText: main }, all)), [1, 1, 1]);
    assert.deepEqual(passes(await draw({ main }, all)), [1, 1, 1]);
  });
});

Deno.test("a step is x − v dt, and its preview where the path would end", GPU_TEST, async () => {
  await withContexts(async (contexts, draw) => {
    const steps = await draw(contexts, { shift: 1 });
    let x = normalNoise(16 * 18, "denoise");
    const grid = [1, 2 / 3, 1 / 3, 0];
    for (const [i, { t, velocity, latents, preview }] of steps.entries()) {
      assert.ok(Math.abs(t - grid[i]) < 1e-6);
      x = x.map((value, j) => value - velocity[j] * (grid[i] - grid[i + 1]));
      latents.forEach((got, j) => assert.ok(Math.abs(got - x[j]) < 1e-5));
      if (i === 2) assert.deepEqual(preview(), latents, "the last step ends there");
    }
  });
});

Deno.test(
  "generateAll() draws each prompt as it is drawn alone, from noise of its own",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await modelFolder(gpu);
    const open = await openModel(gpu, dir);
    const options = { steps: 3, size: 16 } as const;
    const prompts = ["a dark lung", "bright lesion left ."];
    const together = await generateAll(open, prompts, options);
    assert.equal(together.length, 2);
    const alone = await generate(open, prompts[0], options);
    const off =
      alone.image.data.filter((v, i) => Math.abs(v - together[0].image.data[i]) > 1).length;
    assert.equal(off, 0, "the first has the noise that a single one has");
    const same = await generateAll(open, [prompts[1], prompts[1]], options);
    assert.notDeepEqual(same[0].image.data, same[1].image.data);
    assert.deepEqual(await generateAll(open, []), []);
    await assert.rejects(generateAll(open, ["a", " "]), /Cannot generate from an empty prompt/);
    open.dispose();
    await Deno.remove(dir, { recursive: true });
  },
);

Deno.test(
  "with an autoencoder text to image loads its decoder alone, an edit both halves",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await autoencoderFolder(gpu);
    const open = await openModel(gpu, dir);
    const live = gpu.buffers.liveCount;
    const drawn = await generate(open, "a dark lung", { steps: 3, size: 16 });
    assert.deepEqual([drawn.image.width, drawn.image.height], [16, 16]);
    assert.ok(open.decoder && !open.encoder);
    const image = denormalize(picture(3));
    const options = { steps: 2, plan: "none" } as const;
    const sample = await edit(open, image, "dark", options);
    assert.ok(open.encoder);
    const again = await edit(open, image, "dark", options);
    assert.deepEqual(again.image.data, sample.image.data, "the posterior's noise follows the seed");
    const mean = await edit(open, image, "dark", { ...options, posterior: "mean" });
    assert.notDeepEqual(mean.latents, sample.latents);
    await assert.rejects(
      edit(open, image, "dark", { ...options, posterior: "mode" as "mean" }),
      /posterior "mode"/,
    );
    open.dispose();
    assert.equal(gpu.buffers.liveCount, live);
    await Deno.remove(`${dir}/ae.safetensors`);
    const without = await openModel(gpu, dir);
    await assert.rejects(generate(without, "a lung", { steps: 2, size: 16 }), {
      name: "InputError",
      message: /tensors are missing: .*(encoder|decoder)\.conv_in\.weight/,
    });
    without.dispose();
    await Deno.remove(dir, { recursive: true });
  },
);
