// Whole modules against a fixture's ops.safetensors: the image encoder, the connector and one two-expert
// layer with its gradients. Values inside are read through the same sites that users tap.

import { backward, noGrad, parameter } from "../autograd.ts";
import type { Mode } from "../data/pack.ts";
import type { Gpu } from "../gpu/device.ts";
import { loadModel } from "../model/checkpoint.ts";
import { headSize } from "../model/config.ts";
import { decoderLayer, type Layout, type Streams } from "../model/language.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { readConfig } from "../model/read_config.ts";
import { connect, encodePatches } from "../model/vision.ts";
import { nameFromReference } from "../model/weights.ts";
import type { Site } from "../nn/site.ts";
import { attentionMask } from "../ops/attention_mask.ts";
import { ropeTables } from "../ops/rope.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { mergeRows } from "../ops/merge_rows.ts";
import { rowIndex } from "../ops/row_index.ts";
import { Tensor, tidy } from "../tensor.ts";
import { tokenInfo } from "./batch.ts";
import type { Fixture, Row } from "./compare.ts";

const OPS = "ops.safetensors";

/** Compares the cases `siglip`, `connector` and `mot_layer`, as far as the fixture has them. */
export async function checkModules(gpu: Gpu, fixture: Fixture): Promise<Row[]> {
  const config = await readConfig(fixture.dir);
  const { model } = await loadModel(gpu, config, `${fixture.dir}/model.safetensors`);
  const names = fixture.names(OPS);
  const rows: Row[] = [];
  if (names.includes("siglip/y")) rows.push(...await checkVision(gpu, fixture, model));
  if (names.includes("mot_layer/y")) rows.push(...await checkLayer(gpu, fixture, model));
  model.dispose();
  return rows;
}

/** Keeps what passes through the sites of the given names. */
function collect(seen: Map<string, Tensor>, wanted: (site: string) => boolean): Site {
  return (name, x) => {
    if (wanted(name)) seen.set(name, x.alias().keep());
    return x;
  };
}

async function compareAll(
  fixture: Fixture,
  values: Iterable<[string, Tensor]>,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [name, tensor] of values) {
    rows.push(await fixture.compare(OPS, name, await tensor.floats()));
    tensor.dispose();
  }
  return rows;
}

async function checkVision(gpu: Gpu, fixture: Fixture, model: UniMedVL): Promise<Row[]> {
  const { config, parameters } = model;
  const pixels = await fixture.tensor(OPS, "siglip/packed_pixel_values");
  const positions = await fixture.int(OPS, "siglip/packed_flattened_position_ids");
  const bounds = await fixture.int(OPS, "siglip/cu_seqlens");
  const n = positions.length;
  const sample = new Int32Array(n);
  for (let i = 0; i + 1 < bounds.length; i++) sample.fill(i, bounds[i], bounds[i + 1]);
  const seen = new Map<string, Tensor>();
  const made = tidy(() =>
    noGrad(() => {
      const site = collect(seen, (name) =>
        name === "vit.embed" || /^vit\.layers\.\d+\.out$/.test(name));
      const mask = attentionMask(gpu, { sample, split: sample, mode: new Int32Array(n).fill(1) });
      const learned = parameters.get("vit.embed.position.weight").dim(0);
      const rows = rowIndex(gpu, positions, learned);
      const places = rowIndex(gpu, positions, config.vitMaxNumPatchPerSide ** 2);
      const patches = Tensor.from(gpu, pixels.data as Float32Array, pixels.shape);
      const y = encodePatches(patches, rows, mask, parameters, config.vision, site);
      const projected = collect(seen, (name) =>
        name === "connector.projected");
      return { y, placed: connect(y, places, parameters, projected) };
    })
  );
  const found: [string, Tensor][] = [["siglip/embeddings", seen.get("vit.embed")!]];
  for (let i = 0; i < config.vision.numHiddenLayers; i++) {
    found.push([`siglip/hidden_${i}`, seen.get(`vit.layers.${i}.out`)!]);
  }
  found.push(["siglip/y", made.y]);
  found.push(["connector/y", seen.get("connector.projected")!]);
  found.push(["connector/y_plus_pos", made.placed]);
  return await compareAll(fixture, found);
}

async function checkLayer(gpu: Gpu, fixture: Fixture, model: UniMedVL): Promise<Row[]> {
  const { language } = model.config;
  const { mot_layer: facts } = await fixture.json("ops.json");
  const index: number = facts.layer_index;
  const und = await fixture.int(OPS, "mot_layer/packed_und_token_indexes");
  const gen = await fixture.int(OPS, "mot_layer/packed_gen_token_indexes");
  const positions = await fixture.int(OPS, "mot_layer/packed_position_ids");
  const input = await fixture.tensor(OPS, "mot_layer/x");
  const upstream = await fixture.tensor(OPS, "mot_layer/g_y");
  const tokens = positions.length;
  const lens: number[][] = facts.split_lens;
  const modes: Mode[][] = facts.attn_modes;
  const info = tokenInfo(facts.sample_lens, lens.flat(), modes.flat());

  const seen = new Map<string, Tensor>();
  const made = tidy(() => {
    const tables = (rows: Int32Array) =>
      ropeTables(gpu, rows.map((i) => positions[i]), headSize(language), language.ropeTheta);
    const rows = { und: rowIndex(gpu, und, tokens), gen: rowIndex(gpu, gen, tokens) };
    const layout: Layout = {
      tokens,
      rows,
      rope: { und: tables(und), gen: tables(gen) },
      mask: attentionMask(gpu, info),
    };
    const x = parameter(Tensor.from(gpu, input.data as Float32Array, input.shape));
    const streams: Streams = { und: gatherRows(x, rows.und), gen: gatherRows(x, rows.gen) };
    const inside = collect(seen, (name) => /\.attn\.(q|k|v|heads)$/.test(name));
    const out = decoderLayer(streams, model.parameters, index, language, layout, { site: inside });
    const y = mergeRows([out.und!, out.gen!], [rows.und, rows.gen], tokens);
    const seeds = [Tensor.from(gpu, upstream.data as Float32Array, upstream.shape)];
    return { x, y, gradients: backward(y, { seeds }) };
  });
  const found: [string, Tensor][] = [
    ["mot_layer/y", made.y],
    ["mot_layer/d_x", made.gradients.get(made.x)!],
  ];
  for (const name of fixture.names(OPS, "grad")) {
    const short = /^mot_layer\/d_(.+\.(?:weight|bias))$/.exec(name)?.[1];
    if (!short) continue;
    const ours = nameFromReference(`language_model.model.layers.${index}.${short}`)!;
    found.push([name, made.gradients.get(model.parameters.get(ours))!]);
  }
  const rowsOut = await compareAll(fixture, found);
  for (const gradient of made.gradients.values()) gradient.dispose();
  made.x.dispose();
  const length: number = facts.sample_lens[0];
  rowsOut.push(...await compareHeads(fixture, seen, index, { und, gen }, length));
  return rowsOut;
}

/** Queries, keys, values and results of the first sample, as (heads, tokens, head size), keys repeated. */
async function compareHeads(
  fixture: Fixture,
  seen: Map<string, Tensor>,
  layer: number,
  indexes: Record<"und" | "gen", Int32Array>,
  length: number,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [site, name] of [["q", "q"], ["k", "k"], ["v", "v"], ["heads", "out"]]) {
    const reference = await fixture.tensor(OPS, `mot_layer/attn0_${name}`);
    const [heads, , size] = reference.shape;
    const got = new Float32Array(reference.data.length);
    for (const expert of ["und", "gen"] as const) {
      const tensor = seen.get(`${expert}.layers.${layer}.attn.${site}`)!;
      const values = await tensor.floats();
      const own = tensor.dim(1);
      tensor.dispose();
      indexes[expert].forEach((position, i) => {
        if (position >= length) return;
        for (let h = 0; h < heads; h++) {
          const from = (i * own + Math.floor((h * own) / heads)) * size;
          got.set(values.subarray(from, from + size), (h * length + position) * size);
        }
      });
    }
    rows.push(await fixture.compare(OPS, `mot_layer/attn0_${name}`, got));
  }
  return rows;
}
