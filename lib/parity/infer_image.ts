// Image inference against the reference: contexts of an edit, guided velocities step by step for every way of
// guidance, latents, decoded pixels, and UniMedVL's answer-then-reconstruct.

import { noGrad } from "../autograd.ts";
import { packBatch } from "../data/pack.ts";
import { patchify, positionIds } from "../data/patches.ts";
import type { Image } from "../data/resize.ts";
import { denormalize, normalize, type Pixels, resizeByRule } from "../data/transforms.ts";
import type { Gpu } from "../gpu/device.ts";
import { CachePool, type Context } from "../infer/cache.ts";
import { denoise, type DenoiseStep, type DrawContexts } from "../infer/denoise.ts";
import { latentBlock, latentImage } from "../infer/images.ts";
import { type Block, runPass } from "../infer/pass.ts";
import { prepareBatch } from "../model/batch.ts";
import { latentSize, latentStride } from "../model/config.ts";
import { tidy } from "../tensor.ts";
import type { Fixture, Row } from "./compare.ts";
import { asText, compareCache, fixtureImage, type InferSetup, setUpInference } from "./infer.ts";
import { packingOf } from "./infer_one_pass.ts";
import { compareWriting } from "./infer_text.ts";

const FILE = "infer_image.safetensors";
/** Share of a picture's values that may be one off: the reference cuts floats off, and rounding decides. */
const MOST_OFF_BY_ONE = 0.01;

/** All of `infer_image`. */
export async function checkInferImage(gpu: Gpu, fixture: Fixture): Promise<Row[]> {
  const setup = await setUpInference(gpu, fixture);
  try {
    return [
      ...await checkEdit(setup, fixture),
      ...await checkTextToImage(setup, fixture),
      ...await checkReconstruction(setup, fixture),
    ];
  } finally {
    setup.dispose();
  }
}

/** An input image as both encoders take it: the VAE's size first, then the ViT's of that (`inferencer.py`). */
function conditionImages(image: Image, { vaeRule, vitRule }: InferSetup) {
  const resized = resizeByRule(image, vaeRule);
  return { vae: normalize(resized), vit: normalize(resizeByRule(resized, vitRule)) };
}

/** Reads blocks into a context. */
function read(setup: InferSetup, context: Context, ...blocks: Block[]): Promise<unknown> {
  return runPass(setup.model, setup.special, [{ context, blocks }]);
}

async function checkEdit(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings } = setup;
  const image = await fixtureImage(fixture, FILE, "edit/image_u8");
  const { vae, vit } = conditionImages(image, setup);
  const noise = await fixture.float(FILE, "edit/vae_cond_noise");
  const latents = await latentBlock(model, setup.autoencoder, vae, noise);
  const text: Block = {
    kind: "text",
    ids: asText(special, await fixture.int(FILE, "edit/prompt_ids")),
  };
  const pool = new CachePool(model.gpu, model.config.language, 1024);
  const main = pool.context();
  const rows = await comparePreparation(setup, fixture, vae, vit, text.ids as number[]);
  await read(setup, main, latents);
  await read(setup, main, { kind: "vit", image: vit });
  const withoutText = main.fork();
  await read(setup, main, text);
  const withoutImages = pool.context();
  await read(setup, withoutImages, text);
  rows.push(...await compareCache(fixture, FILE, "edit/cache_gen", pool, main, model));
  rows.push(...await compareCache(fixture, FILE, "edit/cache_cfg_img", pool, withoutImages, model));
  rows.push(
    ...await compareLatentLists(setup, fixture, "edit", [main, withoutText, withoutImages]),
  );
  const contexts = { main, withoutText, withoutImages };
  for (const name of Object.keys(settings)) {
    if (!name.startsWith("edit_")) continue;
    rows.push(...await compareDrawing(setup, fixture, name, "edit/init_noise", contexts));
  }
  rows.push(...await checkOnePass(setup, fixture, { vae, vit, latents, text }));
  pool.dispose();
  return rows;
}

async function checkTextToImage(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings } = setup;
  const ids = asText(special, await fixture.int(FILE, "t2i/prompt_ids"));
  const pool = new CachePool(model.gpu, model.config.language, 512);
  const [main, withoutText, withoutImages] = [pool.context(), pool.context(), pool.context()];
  for (const context of [main, withoutImages]) await read(setup, context, { kind: "text", ids });
  const rows = await compareText(fixture, "t2i/prepare_prompts", ids, 0, 0);
  rows.push(...await compareText(fixture, "t2i/prepare_prompts_1", ids, 0, 0));
  rows.push(...await compareLatentLists(setup, fixture, "t2i", [main, withoutText, withoutImages]));
  for (const name of Object.keys(settings)) {
    if (!name.startsWith("t2i_")) continue;
    const contexts = { main, withoutText, withoutImages: main };
    rows.push(...await compareDrawing(setup, fixture, name, "t2i/init_noise", contexts));
  }
  pool.dispose();
  return rows;
}

/** UniMedVL's version 1: the model answers about an image, then draws the image again with the answer. */
async function checkReconstruction(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, settings, autoencoder } = setup;
  if (!settings.recon) return [];
  const image = await fixtureImage(fixture, FILE, "edit/image_u8");
  const { vae, vit } = conditionImages(image, setup);
  const latents = await latentBlock(
    model,
    autoencoder,
    vae,
    await fixture.float(FILE, "recon/noise_0"),
  );
  const text: Block = {
    kind: "text",
    ids: asText(special, await fixture.int(FILE, "recon/prompt_ids")),
  };
  const pool = new CachePool(model.gpu, model.config.language, 1024);
  const main = pool.context();
  await read(setup, main, latents, { kind: "vit", image: vit }, text);
  const withoutImages = pool.context();
  await read(setup, withoutImages, text);
  const speaker = main.fork();
  const length = settings.recon.params.max_think_token_n;
  const { rows, ids } = await compareWriting(setup, fixture, FILE, "recon", speaker, length);
  const answer: Block = { kind: "text", ids: asText(special, ids.slice(1)) };
  const withoutText = main.fork();
  await read(setup, main, answer);
  await read(setup, withoutImages, answer);
  const contexts = { main, withoutText, withoutImages };
  const shown = { ...settings.recon.params, image_shapes: [vae.height, vae.width] };
  rows.push(...await compareDrawing(setup, fixture, "recon", "recon/noise_1", contexts, shown));
  pool.dispose();
  return rows;
}

/** One recorded drawing: velocities of each step, final latents, decoded image, picture. */
async function compareDrawing(
  setup: InferSetup,
  fixture: Fixture,
  name: string,
  noiseName: string,
  contexts: DrawContexts,
  // deno-lint-ignore no-explicit-any
  params: any = setup.settings[name],
): Promise<Row[]> {
  const { model, special, autoencoder } = setup;
  const names = new Set(fixture.names(FILE));
  const rows: Row[] = [];
  const compare = async (tensor: string, got: ArrayLike<number>) => {
    if (names.has(`${name}/${tensor}`)) {
      rows.push(await fixture.compare(FILE, `${name}/${tensor}`, got));
    }
  };
  const [height, width] = params.image_shapes;
  const stride = latentStride(model.config);
  const [gridRows, gridColumns] = [height / stride, width / stride];
  const noise = await fixture.float(FILE, noiseName);
  const steps: DenoiseStep[] = [];
  const job = { contexts, noise, rows: gridRows, columns: gridColumns };
  const [latents] = await denoise(model, special, [job], {
    steps: params.num_timesteps,
    shift: params.timestep_shift,
    textGuidance: params.cfg_text_scale,
    imageGuidance: params.cfg_img_scale,
    interval: params.cfg_interval,
    renorm: params.cfg_renorm_type,
    renormMin: params.cfg_renorm_min,
    asReference: true,
    onStep: (step) => {
      steps.push(step);
    },
  });
  for (const [i, step] of steps.entries()) {
    await compare(`step${i}/v`, step.velocity);
    await compare(`step${i}/v_cond`, step.main);
    if (step.withoutText) await compare(`step${i}/v_cfg_text`, step.withoutText);
    if (step.withoutImages) await compare(`step${i}/v_cfg_img`, step.withoutImages);
  }
  await compare("final_latent_tokens", latents);
  const image = await latentImage(model, autoencoder, latents, gridRows, gridColumns);
  await compare("decoded", image.data);
  if (names.has(`${name}/image_u8`)) {
    rows.push(await comparePicture(fixture, `${name}/image_u8`, denormalize(image)));
  }
  return rows;
}

/** A picture may be one off on a hundredth of its values. */
async function comparePicture(fixture: Fixture, name: string, picture: Image): Promise<Row> {
  const want = (await fixture.tensor(FILE, name)).data;
  const differences = Array.from(picture.data, (v, i) => Math.abs(v - want[i]));
  const off = differences.filter((d) => d > 0).length;
  const fits = want.length === picture.data.length &&
    differences.every((d) => d <= 1) && off <= MOST_OFF_BY_ONE * want.length;
  if (!fits) return await fixture.compare(FILE, name, picture.data);
  const slash = name.indexOf("/");
  return {
    case: name.slice(0, slash),
    tensor: name.slice(slash + 1),
    error: off / want.length,
    tolerance: MOST_OFF_BY_ONE,
    ok: true,
  };
}

/** The velocity of the first step from one masked pass over everything. */
async function checkOnePass(
  setup: InferSetup,
  fixture: Fixture,
  read: { vae: Pixels; vit: Pixels; latents: Extract<Block, { kind: "latents" }>; text: Block },
): Promise<Row[]> {
  const name = "edit_global/step0/v_cond";
  if (!fixture.names(FILE).includes(name) || read.text.kind !== "text") return [];
  const { model, special, settings } = setup;
  const noise = await fixture.float(FILE, "edit/init_noise");
  const [height, width] = settings.edit_global.image_shapes;
  const blank = { height, width, data: new Float32Array(3 * height * width) };
  const ids = Array.from(read.text.ids).slice(1, -1);
  const packed = packBatch([{
    plan: [
      { type: "vae_image", loss: false, image: read.vae },
      { type: "vit_image", loss: false, image: read.vit },
      { type: "text", loss: false, ids },
      { type: "vae_image", loss: true, image: blank },
    ],
  }], packingOf(model.config, special));
  const clean = read.latents.tokens;
  const noisy = new Float32Array(clean.length + noise.length);
  noisy.set(clean);
  noisy.set(noise, clean.length);
  const width1 = latentSize(model.config);
  const timesteps = new Float32Array(noisy.length / width1).fill(1, clean.length / width1);
  const velocity = tidy(() =>
    noGrad(() => {
      const batch = prepareBatch(model.gpu, model.config, { packed, noisy, timesteps });
      return model.forward(batch).velocity!;
    })
  );
  const row = await fixture.compare(FILE, name, await velocity.floats());
  velocity.dispose();
  return [{ ...row, case: "one_pass", tensor: "edit_step0_v_cond" }];
}

const upTo = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

/** Compares lists of a recorded preparation; `FILE` has them under `prefix/name`. */
async function compareLists(
  fixture: Fixture,
  prefix: string,
  lists: Record<string, ArrayLike<number>>,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [name, list] of Object.entries(lists)) {
    rows.push(await fixture.compare(FILE, `${prefix}/${name}`, list));
  }
  return rows;
}

function compareText(
  fixture: Fixture,
  prefix: string,
  ids: number[],
  length: number,
  position: number,
): Promise<Row[]> {
  return compareLists(fixture, prefix, {
    key_values_lens: [length],
    packed_key_value_indexes: upTo(length),
    packed_text_ids: ids,
    packed_text_indexes: upTo(ids.length, length),
    packed_text_position_ids: upTo(ids.length, position),
    text_token_lens: [ids.length],
  });
}

/** What the reference prepares for an edit: VAE image, ViT image, text; text alone. */
async function comparePreparation(
  setup: InferSetup,
  fixture: Fixture,
  vae: Pixels,
  vit: Pixels,
  ids: number[],
): Promise<Row[]> {
  const { model: { config }, special } = setup;
  const stride = latentStride(config);
  const latentRows = vae.height / stride, latentColumns = vae.width / stride;
  const n = latentRows * latentColumns;
  const { patchSize } = config.vision;
  const vitRows = Math.floor(vit.height / patchSize),
    vitColumns = Math.floor(vit.width / patchSize);
  const m = vitRows * vitColumns;
  const markers = [special.soi, special.eoi];
  return [
    ...await compareLists(fixture, "edit/prepare_vae_images", {
      key_values_lens: [0],
      packed_indexes: upTo(n + 2),
      packed_key_value_indexes: [],
      packed_position_ids: upTo(n + 2).map(() => 0),
      packed_seqlens: [n + 2],
      packed_text_ids: markers,
      packed_text_indexes: [0, n + 1],
      packed_timesteps: [0],
      packed_vae_position_ids: positionIds(latentRows, latentColumns, config.maxLatentSize),
      packed_vae_token_indexes: upTo(n, 1),
      padded_images: vae.data,
      patchified_vae_latent_shapes: [latentRows, latentColumns],
    }),
    ...await compareLists(fixture, "edit/prepare_vit_images", {
      key_values_lens: [n + 2],
      packed_indexes: upTo(m + 2, n + 2),
      packed_key_value_indexes: upTo(n + 2),
      packed_position_ids: upTo(m + 2).map(() => 1),
      packed_seqlens: [m + 2],
      packed_text_ids: markers,
      packed_text_indexes: [0, m + 1],
      packed_vit_position_ids: positionIds(vitRows, vitColumns, config.vitMaxNumPatchPerSide),
      packed_vit_token_indexes: upTo(m, 1),
      packed_vit_tokens: patchify(vit.data, vit.height, vit.width, patchSize),
      vit_token_seqlens: [m],
    }),
    ...await compareText(fixture, "edit/prepare_prompts", ids, n + m + 4, 2),
    ...await compareText(fixture, "edit/prepare_prompts_1", ids, 0, 0),
  ];
}

/** What the reference prepares for drawing: the block behind the main context, and behind the others. */
async function compareLatentLists(
  setup: InferSetup,
  fixture: Fixture,
  name: string,
  [main, ...others]: Context[],
): Promise<Row[]> {
  const { config } = setup.model;
  const first = Object.keys(setup.settings).find((key) => key.startsWith(`${name}_`))!;
  const [height, width] = setup.settings[first].image_shapes;
  const stride = latentStride(config);
  const [rows, columns] = [height / stride, width / stride];
  const n = rows * columns;
  const found = await compareLists(fixture, `${name}/prepare_vae_latent`, {
    key_values_lens: [main.length],
    packed_indexes: upTo(n + 2, main.length),
    packed_key_value_indexes: upTo(main.length),
    packed_position_ids: upTo(n + 2).map(() => main.rope),
    packed_seqlens: [n + 2],
    packed_text_ids: [setup.special.soi, setup.special.eoi],
    packed_text_indexes: [0, n + 1],
    packed_vae_position_ids: positionIds(rows, columns, config.maxLatentSize),
    packed_vae_token_indexes: upTo(n, 1),
  });
  for (const [i, context] of others.entries()) {
    found.push(
      ...await compareLists(fixture, `${name}/prepare_vae_latent_cfg${i === 0 ? "" : `_${i}`}`, {
        cfg_key_values_lens: [context.length],
        cfg_packed_key_value_indexes: upTo(context.length),
        cfg_packed_position_ids: upTo(n + 2).map(() => context.rope),
        cfg_packed_query_indexes: upTo(n + 2, context.length),
      }),
    );
  }
  return found;
}
