// Image transforms against a fixture folder: size rules, resized bytes, normalised tensors, patches,
// colour conversion and grid position ids. Every size comes from the folder's JSON.

import { toRgb } from "../data/color.ts";
import { InputError } from "../errors.ts";
import { patchify, positionIds } from "../data/patches.ts";
import type { Image } from "../data/resize.ts";
import {
  DEFAULT_MAX_PIXELS,
  normalize,
  resizeByRule,
  type SizeRule,
  targetSize,
} from "../data/transforms.ts";
import { compareExact, type Fixture, openFixture, type Row } from "./compare.ts";

const FILE = "transforms.safetensors";

/** Settings of the size rule as the reference's YAML names them. */
interface RuleJson {
  max_image_size: number;
  min_image_size: number;
  image_stride: number;
  max_pixels?: number;
  img_num?: number;
}

/**
 * Runs the transforms of `dir` and compares; one row per tensor, size rule and position grid.
 *
 * @throws {InputError} If a file is missing, or a tensor is listed that nothing here computes
 */
export async function checkTransforms(dir: string): Promise<Row[]> {
  const fixture = await openFixture(dir);
  try {
    const json = await fixture.json("transforms.json");
    const rows = [
      ...checkSizeRules(json.size_rules),
      ...checkImageSizes(json),
      ...await checkImages(fixture, json),
      ...await checkModes(fixture),
    ];
    if (fixture.has("ops.safetensors")) rows.push(...await checkGrids(fixture));
    return rows;
  } finally {
    await fixture.close();
  }
}

function ruleOf(json: RuleJson): SizeRule {
  return {
    max: json.max_image_size,
    min: json.min_image_size,
    stride: json.image_stride,
    maxPixels: json.max_pixels ?? DEFAULT_MAX_PIXELS,
  };
}

type SizeRuleCase = RuleJson & { rows_w_h_outw_outh: [number, number, number, number][] };

function checkSizeRules(cases: SizeRuleCase[]): Row[] {
  return cases.map((json) => {
    const count = json.img_num ?? 1;
    const { max, min, stride, maxPixels } = ruleOf(json);
    const got = json.rows_w_h_outw_outh.flatMap(([w, h]) => {
      const size = targetSize(w, h, ruleOf(json), count);
      return [size.width, size.height];
    });
    const name = `size_rules/max${max}_min${min}_stride${stride}_pixels${maxPixels}_n${count}`;
    return compareExact(name, got, json.rows_w_h_outw_outh.flatMap(([, , w, h]) => [w, h]));
  });
}

interface TransformsJson {
  vit_transform: RuleJson;
  vae_transform: RuleJson;
  images: ({ image: string; width: number; height: number } & Record<string, unknown>)[];
}

function checkImageSizes({ vit_transform, vae_transform, images }: TransformsJson): Row[] {
  const vit = ruleOf(vit_transform);
  const vae = ruleOf(vae_transform);
  return images.flatMap(({ image, width, height, ...sizes }) => {
    const byVae = targetSize(width, height, vae);
    const got: Record<string, { width: number; height: number }> = {
      vit_size_wh: targetSize(width, height, vit),
      vae_size_wh: byVae,
      vae_then_vit_size_wh: targetSize(byVae.width, byVae.height, vit),
    };
    return Object.entries(got).filter(([key]) => sizes[key]).map(([key, size]) =>
      compareExact(`${image}/${key}`, [size.width, size.height], sizes[key] as number[])
    );
  });
}

async function checkImages(fixture: Fixture, json: TransformsJson): Promise<Row[]> {
  const vit = ruleOf(json.vit_transform);
  const vae = ruleOf(json.vae_transform);
  const patch: number = fixture.config.vit_config.patch_size;
  const side: number = fixture.config.vit_max_num_patch_per_side;
  const rows: Row[] = [];
  for (const name of fixture.names(FILE, "out")) {
    const [group, what] = name.split("/");
    if (group === "modes") continue;
    const input = await readBytes(fixture, `${group}/input_u8`);
    const byVit = resizeByRule(input, vit);
    const byVae = resizeByRule(input, vae);
    const rowsOf = (x: Image) => Math.floor(x.height / patch);
    const colsOf = (x: Image) => Math.floor(x.width / patch);
    const compute: Record<string, () => ArrayLike<number>> = {
      vit_resized_u8: () => byVit.data,
      vae_resized_u8: () => byVae.data,
      vae_then_vit_resized_u8: () => resizeByRule(byVae, vit).data,
      vit_tensor: () => normalize(byVit).data,
      vae_tensor: () => normalize(byVae).data,
      vit_tokens: () => patchify(normalize(byVit).data, byVit.height, byVit.width, patch),
      vit_position_ids: () => positionIds(rowsOf(byVit), colsOf(byVit), side),
    };
    if (!Object.hasOwn(compute, what)) throw unknown(fixture, name);
    rows.push(await fixture.compare(FILE, name, compute[what]()));
  }
  return rows;
}

async function checkModes(fixture: Fixture): Promise<Row[]> {
  const rows: Row[] = [];
  for (const name of fixture.names(FILE, "out")) {
    if (!name.startsWith("modes/")) continue;
    if (!name.endsWith("_to_rgb")) throw unknown(fixture, name);
    const input = await readBytes(fixture, name.replace(/_to_rgb$/, "_in"));
    rows.push(await fixture.compare(FILE, name, toRgb(input).data));
  }
  return rows;
}

/** Grid position ids and the patch order, which the fixtures keep among the ops. */
async function checkGrids(fixture: Fixture): Promise<Row[]> {
  const rows: Row[] = [];
  for (const grid of (await fixture.json("ops.json")).position_ids ?? []) {
    const r = Math.floor(grid.img_h / grid.patch_size);
    const c = Math.floor(grid.img_w / grid.patch_size);
    for (const rule of ["extrapolate", "interpolate"] as const) {
      const ids = positionIds(r, c, grid.max_num_patches_per_side, rule);
      const name = `position_ids/${r}x${c}_of_${grid.max_num_patches_per_side}_${rule}`;
      if (grid[rule]) rows.push(compareExact(name, ids, grid[rule]));
      else {rows.push(compareExact(`${name}_sum`, [ids.reduce((a, b) =>
          a + b, 0)], [grid[`${rule}_sum`]]));}
    }
  }
  if (fixture.names("ops.safetensors").includes("patchify/tokens")) {
    const { shape, data } = await fixture.tensor("ops.safetensors", "patchify/image");
    const patch = fixture.config.vit_config.patch_size;
    const tokens = patchify(data as Float32Array, shape[1], shape[2], patch);
    rows.push(await fixture.compare("ops.safetensors", "patchify/tokens", tokens));
  }
  return rows;
}

/** (h, w, C) or (h, w) bytes. */
async function readBytes(fixture: Fixture, name: string): Promise<Image> {
  const { shape: [height, width], data } = await fixture.tensor(FILE, name);
  return { width, height, data: data as Uint8Array };
}

function unknown(fixture: Fixture, name: string): InputError {
  return new InputError(`Cannot check ${name} of ${fixture.dir}: no transform has this name`);
}
