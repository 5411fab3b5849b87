// What the checks of inference share: the fixture's weights, its special ids and image rules, caches read back.

import type { Image } from "../data/resize.ts";
import type { SizeRule } from "../data/transforms.ts";
import { DEFAULT_MAX_PIXELS } from "../data/transforms.ts";
import type { Gpu } from "../gpu/device.ts";
import type { CachePool, Context } from "../infer/cache.ts";
import type { SpecialIds } from "../data/tokenizer.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { loadAutoencoder } from "../model/autoencoder_weights.ts";
import { loadModel } from "../model/checkpoint.ts";
import { headSize } from "../model/config.ts";
import { readConfig } from "../model/read_config.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { PAGE } from "../ops/cached_attention.ts";
import { readAll } from "../tensor.ts";
import type { Fixture, Row } from "./compare.ts";

/** A fixture's model, ready to read and write. */
export interface InferSetup {
  model: UniMedVL;
  autoencoder: Autoencoder;
  special: SpecialIds;
  vitRule: SizeRule;
  vaeRule: SizeRule;
  // deno-lint-ignore no-explicit-any
  settings: any;
  dispose(): void;
}

/** Loads what the files beside `infer.json` describe. */
export async function setUpInference(gpu: Gpu, fixture: Fixture): Promise<InferSetup> {
  const config = await readConfig(fixture.dir);
  if (config.latent.kind !== "autoencoder") {
    throw new Error("internal: fixtures have an autoencoder");
  }
  const settings = await fixture.json("infer.json");
  const { model } = await loadModel(gpu, config, `${fixture.dir}/model.safetensors`);
  const path = `${fixture.dir}/ae.safetensors`;
  const autoencoder = await loadAutoencoder(gpu, config.latent.autoencoder, path);
  const { bos_token_id: bos, eos_token_id: eos, start_of_image: soi, end_of_image: eoi } =
    settings.new_token_ids;
  return {
    model,
    autoencoder,
    special: { bos, eos, soi, eoi },
    vitRule: ruleOf(settings.vit_transform),
    vaeRule: ruleOf(settings.vae_transform),
    settings,
    dispose: () => {
      model.dispose();
      autoencoder.dispose();
    },
  };
}

function ruleOf(
  given: {
    max_image_size: number;
    min_image_size: number;
    image_stride: number;
    max_pixels?: number;
  },
): SizeRule {
  return {
    max: given.max_image_size,
    min: given.min_image_size,
    stride: given.image_stride,
    maxPixels: given.max_pixels ?? DEFAULT_MAX_PIXELS,
  };
}

/** A context's cached keys and values of every layer, tokens in order: `key_0`, `value_0`, … */
export async function cacheRows(
  pool: CachePool,
  context: Context,
  model: UniMedVL,
): Promise<Map<string, Float32Array>> {
  const { numKeyValueHeads: heads, numHiddenLayers } = model.config.language;
  const size = headSize(model.config.language);
  const found = new Map<string, Float32Array>();
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const { keys, values } = pool.layers[layer];
    const wide = keys.dim(2);
    const read = await readAll([keys, values]);
    for (const [i, name] of ["key", "value"].entries()) {
      const all = read[i] as Float32Array;
      const rows = new Float32Array(context.length * heads * size);
      for (let token = 0; token < context.length; token++) {
        const slot = context.pages[Math.floor(token / PAGE)] * PAGE + token % PAGE;
        for (let head = 0; head < heads; head++) {
          const from = (slot * heads + head) * wide;
          rows.set(all.subarray(from, from + size), (token * heads + head) * size);
        }
      }
      found.set(`${name}_${layer}`, rows);
    }
  }
  return found;
}

/** Compares a context's cache with the tensors `prefix/key_0`, … of a file, as far as the file has them. */
export async function compareCache(
  fixture: Fixture,
  file: string,
  prefix: string,
  pool: CachePool,
  context: Context,
  model: UniMedVL,
): Promise<Row[]> {
  const rows: Row[] = [];
  const names = new Set(fixture.names(file));
  for (const [name, values] of await cacheRows(pool, context, model)) {
    const full = `${prefix}/${name}`;
    if (names.has(full)) rows.push(await fixture.compare(file, full, values));
  }
  return rows;
}

/** A text as the reference packs it: start, ids, end. */
export function asText({ bos, eos }: SpecialIds, ids: ArrayLike<number>): number[] {
  return [bos, ...Array.from(ids), eos];
}

/** An image of the fixture, (h, w, 3) bytes. */
export async function fixtureImage(fixture: Fixture, file: string, name: string): Promise<Image> {
  const { shape: [height, width], data } = await fixture.tensor(file, name);
  return { width, height, data: data as Uint8Array<ArrayBuffer> };
}
