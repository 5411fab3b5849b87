// Features of the image tokens at named sites, for probes: images alone are packed, so that what is read
// cannot depend on a question.

import { noGrad } from "../autograd.ts";
import { packBatch, type PackOptions } from "../data/pack.ts";
import type { Pixels } from "../data/transforms.ts";
import { prepareBatch } from "../model/batch.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { readAll, type Tensor, tidy } from "../tensor.ts";

/** Features at one site: `(images, patches, width)`, patches row by row. */
export interface SiteFeatures {
  site: string;
  images: number;
  patches: number;
  width: number;
  data: Float32Array;
}

/** The places along depth where understanding is probed: image encoder, connector, every und layer. */
export function depthSites(model: UniMedVL): string[] {
  const layers = model.config.language.numHiddenLayers;
  const und = Array.from({ length: layers }, (_, i) => `und.layers.${i}.out`);
  return ["vit.out", "connector.out", ...und];
}

/**
 * Reads image-token features. All images must have one number of patches.
 *
 * @param sites sites with one row per image token, or per und token (SOI and EOI are then left out)
 * @throws {TypeError} If a site is not reached, or the images differ in their number of patches
 */
export async function imageFeatures(
  model: UniMedVL,
  images: readonly Pixels[],
  sites: readonly string[],
  pack: PackOptions,
  options: { batch?: number; signal?: AbortSignal } = {},
): Promise<SiteFeatures[]> {
  const { batch = 64 } = options;
  const parts = new Map<string, Float32Array[]>(sites.map((site) => [site, []]));
  const widths = new Map<string, number>();
  let patches = 0;
  for (let start = 0; start < images.length; start += batch) {
    options.signal?.throwIfAborted();
    const group = images.slice(start, start + batch);
    const packed = packBatch(
      group.map((image) => ({ plan: [{ type: "vit_image", loss: false, image }] })),
      pack,
    );
    if (start === 0) patches = packed.vitSeqlens[0];
    const other = packed.vitSeqlens.findIndex((n) => n !== patches);
    if (other >= 0) {
      throw new TypeError(
        `Cannot read features: image ${start + other} has ${
          packed.vitSeqlens[other]
        } patches, image 0 has ${patches}`,
      );
    }
    const seen = new Map<string, Tensor>();
    tidy(() => {
      noGrad(() =>
        model.forward(prepareBatch(model.gpu, model.config, { packed }), {
          site: (name, x) => {
            if (parts.has(name)) seen.set(name, x.alias().keep());
            return x;
          },
        })
      );
    });
    const missing = sites.filter((site) => !seen.has(site));
    if (missing.length > 0) {
      for (const tensor of seen.values()) tensor.dispose();
      throw new TypeError(`Cannot read features: no site ${missing.join(", ")} in this model`);
    }
    const values = await readAll(sites.map((site) => seen.get(site)!));
    sites.forEach((site, i) => {
      const tensor = seen.get(site)!;
      const width = tensor.size / tensor.dim(0);
      widths.set(site, width);
      const onlyPatches = tensor.dim(0) === group.length * patches;
      parts.get(site)!.push(
        onlyPatches
          ? values[i] as Float32Array
          : dropBrackets(values[i] as Float32Array, group.length, patches, width),
      );
      tensor.dispose();
    });
  }
  return sites.map((site) => {
    const chunks = parts.get(site)!;
    const data = new Float32Array(chunks.reduce((n, chunk) => n + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      data.set(chunk, at);
      at += chunk.length;
    }
    return { site, images: images.length, patches, width: widths.get(site)!, data };
  });
}

/** Each image's rows are SOI, patches, EOI: keeps the patches. */
function dropBrackets(
  rows: Float32Array,
  images: number,
  patches: number,
  width: number,
): Float32Array {
  const out = new Float32Array(images * patches * width);
  for (let i = 0; i < images; i++) {
    const from = (i * (patches + 2) + 1) * width;
    out.set(rows.subarray(from, from + patches * width), i * patches * width);
  }
  return out;
}

/** Mean over an image's patches: `(images, width)`. */
export function pooled({ images, patches, width, data }: SiteFeatures): Float32Array {
  const out = new Float32Array(images * width);
  for (let i = 0; i < images; i++) {
    for (let p = 0; p < patches; p++) {
      for (let c = 0; c < width; c++) {
        out[i * width + c] += data[(i * patches + p) * width + c] / patches;
      }
    }
  }
  return out;
}
