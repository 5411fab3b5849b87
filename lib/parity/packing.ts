// Packing against a fixture folder: the recorded sample plans of packing_cases.json, the training
// batch (its samples are recovered from the packed tensors and packed again) and the mask of the
// single-layer case. Every size and id comes from the folder's JSON.

import { InputError } from "../errors.ts";
import { allowed, type Mode, packBatch, type PackedBatch, type PackOptions } from "../data/pack.ts";
import { type TokenInfo, tokensOfSplits } from "../data/packed_batch.ts";
import { positionIds, unpatchify } from "../data/patches.ts";
import type { PlanItem, Sample } from "../data/sample.ts";
import type { Pixels } from "../data/transforms.ts";
import { compareExact, compareFloat, type Fixture, openFixture, type Row } from "./compare.ts";

const TRAIN = "train_batch.safetensors";

/** A plan item as the reference writes it. */
interface ItemJson {
  type: "text" | "vit_image" | "vae_image";
  loss: number;
  enable_cfg: number;
  special_token_loss: number;
  special_token_label: number | null;
  split_start?: boolean;
  split_end?: boolean;
  frame_delta?: number;
}

interface CaseJson {
  name: string;
  dropout_probs: { text: number; vit: number; vae: number };
  draws: number[];
  use_flex: boolean;
  max_num_tokens: number | null;
  samples: {
    sequence_plan: ItemJson[];
    text_ids_list: number[][];
    image_sizes_hw: [number, number][];
  }[];
  expected: Record<string, unknown>;
}

/**
 * Packs everything `dir` has recorded and compares; one row per list.
 *
 * @throws {InputError} If a file is missing, or a list is recorded that nothing here computes
 */
export async function checkPacking(dir: string): Promise<Row[]> {
  const fixture = await openFixture(dir);
  try {
    const train = await fixture.json("train.json");
    const options = optionsOf(fixture, train.new_token_ids);
    const cases: CaseJson[] = await fixture.json("packing_cases.json");
    return [
      ...cases.flatMap((each) => checkCase(each, options)),
      ...await checkTrainBatch(fixture, train, options),
      ...await checkLayerMask(fixture),
    ];
  } finally {
    await fixture.close();
  }
}

function optionsOf({ config }: Fixture, ids: Record<string, number>): PackOptions {
  return {
    special: {
      bos: ids.bos_token_id,
      eos: ids.eos_token_id,
      soi: ids.start_of_image,
      eoi: ids.end_of_image,
    },
    vitPatch: config.vit_config.patch_size,
    latentPixels: config.latent_patch_size * config.vae_config.downsample,
    vitSide: config.vit_max_num_patch_per_side,
    latentSide: config.max_latent_size,
    positions: config.interpolate_pos ? "interpolate" : "extrapolate",
  };
}

/** Builds a plan, taking texts and images from lists in order, as the reference does. */
function sampleOf(plan: ItemJson[], texts: ArrayLike<number>[], images: Pixels[]): Sample {
  let [text, image] = [0, 0];
  return {
    plan: plan.map((json): PlanItem => {
      const base = {
        loss: json.loss === 1,
        dropout: json.enable_cfg === 1,
        ...(json.special_token_loss ? { lastTokenLabel: json.special_token_label! } : {}),
      };
      if (json.type === "text") return { ...base, type: "text", ids: texts[text++] };
      if (json.type === "vit_image") {
        return { ...base, type: "vit_image", loss: false, image: images[image++] };
      }
      return {
        ...base,
        type: "vae_image",
        image: images[image++],
        splitStart: json.split_start ?? true,
        splitEnd: json.split_end ?? true,
        ...(json.frame_delta === undefined ? {} : { frameDelta: json.frame_delta }),
      };
    }),
  };
}

function checkCase(json: CaseJson, options: PackOptions): Row[] {
  let drawn = 0;
  const samples = json.samples.map(({ sequence_plan, text_ids_list, image_sizes_hw }) =>
    sampleOf(
      sequence_plan,
      text_ids_list,
      image_sizes_hw.map(([height, width]) => ({
        height,
        width,
        data: new Float32Array(3 * height * width),
      })),
    )
  );
  const batch = packBatch(samples, {
    ...options,
    dropout: json.dropout_probs,
    drawDropout: () => json.draws[drawn++],
    drawTimestep: () => 0.5,
    ...(json.use_flex ? { padTo: json.max_num_tokens! } : {}),
  });
  const compute = listsOf(batch, options);
  const rows = [compareExact(`packing:${json.name}/draws`, [drawn], [json.draws.length])];
  for (const [key, expected] of Object.entries(json.expected)) {
    if (!Object.hasOwn(compute, key)) {
      throw new InputError(`Cannot check ${key} of packing case ${json.name}: nothing computes it`);
    }
    const ref = numbers(expected);
    const name = `packing:${json.name}/${key}`;
    const got = numbers(compute[key]());
    rows.push(
      // Weights are f32 in the reference, written in decimal.
      key === "ce_loss_weights"
        ? compareFloat(name, got, ref, 0, 1e-7)
        : compareExact(name, got, ref),
    );
  }
  return rows;
}

/** What a batch says, under the reference's names. */
function listsOf(batch: PackedBatch, options: PackOptions): Record<string, () => unknown> {
  return {
    sequence_length: () => batch.sequenceLength,
    sample_lens: () => batch.sampleLens,
    split_lens: () => batch.splitLens,
    attn_modes: () => batch.splitModes,
    packed_position_ids: () => batch.positionIds,
    packed_text_ids: () => batch.textIds,
    packed_text_indexes: () => batch.textIndexes,
    packed_label_ids: () => batch.labelIds,
    ce_loss_indexes: () => batch.ceLossIndexes,
    ce_loss_weights: () => batch.ceLossWeights,
    packed_vit_tokens: () => batch.vitTokens,
    packed_vit_tokens_shape: () => {
      const width = 3 * options.vitPatch ** 2;
      return [batch.vitTokens.length / width, width];
    },
    packed_vit_position_ids: () => batch.vitPositionIds,
    packed_vit_token_indexes: () => batch.vitTokenIndexes,
    vit_token_seqlens: () => batch.vitSeqlens,
    padded_images_shape: () => {
      const largest = (side: "height" | "width") =>
        Math.max(...batch.vaeImages.map((image) => image[side]));
      return [batch.vaeImages.length, 3, largest("height"), largest("width")];
    },
    patchified_vae_latent_shapes: () => batch.latentShapes,
    packed_latent_position_ids: () => batch.latentPositionIds,
    packed_vae_token_indexes: () => batch.vaeTokenIndexes,
    packed_timesteps: () => batch.timesteps,
    packed_timesteps_is_clean: () => Array.from(batch.timesteps, (t) => t === -Infinity ? 1 : 0),
    mse_loss_indexes: () => batch.mseLossIndexes,
    attention_allowed_rows: () => maskRows(batch, batch.sampleLens),
    attention_allowed: () => maskOf(batch, batch.sequenceLength),
  };
}

/** Flattens nested lists; modes become their numbers, rows of 0/1 characters their digits. */
function numbers(value: unknown): number[] {
  if (typeof value === "number") return [value];
  if (typeof value === "string") {
    const mode = ["causal", "full", "noise"].indexOf(value);
    return mode >= 0 ? [mode] : Array.from(value, Number);
  }
  return Array.from(value as ArrayLike<unknown>).flatMap(numbers);
}

/** Per sample the rows of its mask, as 0/1 characters. */
function maskRows(tokens: TokenInfo, sampleLens: number[]): string[][] {
  let start = 0;
  return sampleLens.map((length) => {
    const ids = Array.from({ length }, (_, i) => start + i);
    start += length;
    return ids.map((q) => ids.map((k) => allowed(tokens, q, k) ? "1" : "0").join(""));
  });
}

/** The whole (T, T) mask. */
function maskOf(tokens: TokenInfo, length: number): Uint8Array {
  const mask = new Uint8Array(length * length);
  for (let q = 0; q < length; q++) {
    for (let k = 0; k < length; k++) mask[q * length + k] = allowed(tokens, q, k) ? 1 : 0;
  }
  return mask;
}

/** Recovers the samples from the packed tensors, packs them and compares with the same tensors. */
async function checkTrainBatch(
  fixture: Fixture,
  // deno-lint-ignore no-explicit-any
  json: any,
  options: PackOptions,
): Promise<Row[]> {
  const samples = await recoverSamples(fixture, json, options);
  const logits = await noisedTimesteps(fixture, json.patchified_vae_latent_shapes);
  let drawn = 0;
  const pack = (extra: Partial<PackOptions>) => {
    drawn = 0;
    return packBatch(samples, { ...options, drawTimestep: () => logits[drawn++], ...extra });
  };
  const batch = pack({});
  const compute = listsOf(batch, options);
  const rows: Row[] = [];
  for (const name of fixture.names(TRAIN)) {
    if (!Object.hasOwn(compute, name)) continue; // images, noises and results: not packing's
    const { dtype, data } = await fixture.tensor(TRAIN, name);
    const got = numbers(compute[name]());
    const row = `packing:train_batch/${name}`;
    rows.push(
      dtype === "F32"
        ? compareFloat(row, got, data, 0, fixture.rtol)
        : compareExact(row, got, data),
    );
  }
  const compareJson = (prefix: string, lists: Record<string, unknown>, from: PackedBatch) => {
    const computed = listsOf(from, options);
    for (const key of Object.keys(computed)) {
      if (!Object.hasOwn(lists, key)) continue;
      rows.push(
        compareExact(`packing:${prefix}/${key}`, numbers(computed[key]()), numbers(lists[key])),
      );
    }
  };
  compareJson("train", json, batch);
  const { flex_padding } = json;
  compareJson("train_flex", flex_padding, pack({ padTo: flex_padding.max_num_tokens }));
  return rows;
}

async function recoverSamples(
  fixture: Fixture,
  // deno-lint-ignore no-explicit-any
  json: any,
  options: PackOptions,
): Promise<Sample[]> {
  const textIds = await fixture.int(TRAIN, "packed_text_ids");
  const vitImages = await recoverVitImages(fixture, options);
  const vaeImages = await recoverVaeImages(fixture, json.patchified_vae_latent_shapes, options);
  const splitLens: number[] = [...json.split_lens];
  let at = 0; // in textIds
  return json.samples.map((plan: ItemJson[]) => {
    const texts: Int32Array[] = [];
    const images: Pixels[] = [];
    for (const { type } of plan) {
      const length = splitLens.shift()!;
      if (type === "text") texts.push(textIds.slice(at + 1, at + length - 1));
      else images.push((type === "vit_image" ? vitImages : vaeImages).shift()!);
      at += type === "text" ? length : 2;
    }
    return sampleOf(plan, texts, images);
  });
}

async function recoverVitImages(fixture: Fixture, options: PackOptions): Promise<Pixels[]> {
  const tokens = await fixture.float(TRAIN, "packed_vit_tokens");
  const ids = await fixture.int(TRAIN, "packed_vit_position_ids");
  const { vitPatch } = options;
  const width = 3 * vitPatch ** 2;
  let at = 0;
  return Array.from(await fixture.int(TRAIN, "vit_token_seqlens"), (count) => {
    const { rows, cols } = gridOfIds(ids.subarray(at, at + count), options);
    const data = unpatchify(tokens.slice(at * width, (at + count) * width), rows, cols, vitPatch);
    at += count;
    return { height: rows * vitPatch, width: cols * vitPatch, data };
  });
}

/** The grid of patches whose position ids these are. */
function gridOfIds(ids: Int32Array, { vitSide, positions }: PackOptions) {
  for (let rows = 1; rows <= Math.min(vitSide, ids.length); rows++) {
    const cols = ids.length / rows;
    if (!Number.isInteger(cols) || cols > vitSide) continue;
    if (positionIds(rows, cols, vitSide, positions).every((id, i) => id === ids[i])) {
      return { rows, cols };
    }
  }
  throw new InputError(`Cannot recover a ViT image: no grid of ${ids.length} has its position ids`);
}

async function recoverVaeImages(
  fixture: Fixture,
  shapes: [number, number][],
  { latentPixels }: PackOptions,
): Promise<Pixels[]> {
  const { shape: [, , fullHeight, fullWidth], data } = await fixture.tensor(TRAIN, "padded_images");
  return shapes.map(([rows, cols], n) => {
    const [height, width] = [rows * latentPixels, cols * latentPixels];
    const cropped = new Float32Array(3 * height * width);
    for (let line = 0; line < 3 * height; line++) {
      const [c, y] = [Math.floor(line / height), line % height];
      const from = ((n * 3 + c) * fullHeight + y) * fullWidth;
      cropped.set(data.subarray(from, from + width) as Float32Array, line * width);
    }
    return { height, width, data: cropped };
  });
}

/** The timestep of each noised image, in order. */
async function noisedTimesteps(fixture: Fixture, shapes: [number, number][]): Promise<number[]> {
  const timesteps = await fixture.float(TRAIN, "packed_timesteps");
  let at = 0;
  return shapes.map(([rows, cols]) => {
    const first = timesteps[at];
    at += rows * cols;
    return first;
  }).filter((t) => t !== -Infinity);
}

/** The mask of the single-layer case of ops.safetensors, where there is one. */
async function checkLayerMask(fixture: Fixture): Promise<Row[]> {
  const name = "mot_layer/attention_allowed";
  if (!fixture.names("ops.safetensors").includes(name)) return [];
  const { split_lens, attn_modes } = (await fixture.json("ops.json")).mot_layer;
  const tokens = tokensOfSplits(split_lens as number[][], attn_modes as Mode[][]);
  return [await fixture.compare("ops.safetensors", name, maskOf(tokens, tokens.sample.length))];
}
