// The autoencoder against a fixture folder: encoding, decoding, single blocks, cutting latents into tokens.
// Sizes come from the folder's config.json and ae.safetensors, inputs by shape, blocks by the notes in
// index.json.

import { patchify } from "../data/patches.ts";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { loadAutoencoder } from "../model/autoencoder_weights.ts";
import { readConfig } from "../model/read_config.ts";
import {
  attentionBlock,
  downsample,
  normalize,
  resnetBlock,
  upsample,
} from "../nn/image_blocks.ts";
import type { Parameters } from "../nn/parameters.ts";
import { toChannelsFirst, toChannelsLast } from "../ops/channels.ts";
import { noGrad } from "../autograd.ts";
import { Tensor, tidy } from "../tensor.ts";
import { type Fixture, openFixture, type Row } from "./compare.ts";

const FILE = "vae_cases.safetensors";

/** A block on a channels-last image, its place in the model, and the size of its output. */
interface BlockCase {
  run: (x: Tensor, p: Parameters) => Tensor;
  /** Where it is when index.json does not say. */
  place: (levels: number) => string;
  /** Weight whose second axis (first, for norms) counts the input's channels. */
  entry: string;
  size: (side: number) => number;
}

const same = (side: number) => side;

const BLOCKS: Record<string, BlockCase> = {
  groupnorm: {
    run: (x, p) => normalize(x, p, false),
    place: () => "encoder.down.0.block.0.norm1",
    entry: "weight",
    size: same,
  },
  resnet: {
    run: resnetBlock,
    place: () => "encoder.down.0.block.0",
    entry: "conv1.weight",
    size: same,
  },
  resnet_shortcut: {
    run: resnetBlock,
    place: () => "encoder.down.1.block.0",
    entry: "conv1.weight",
    size: same,
  },
  downsample: {
    run: downsample,
    place: () => "encoder.down.0.downsample",
    entry: "conv.weight",
    size: (side) => Math.floor(side / 2),
  },
  attn: { run: attentionBlock, place: () => "encoder.mid.attn_1", entry: "q.weight", size: same },
  upsample: {
    run: upsample,
    place: (levels) => `decoder.up.${levels - 1}.upsample`,
    entry: "conv.weight",
    size: (side) => 2 * side,
  },
};

/**
 * Runs every case of `vae_cases.safetensors` and compares; one row per tensor.
 *
 * @param dir a fixture folder
 * @throws {InputError} If a file is missing, or a tensor is listed that nothing here computes
 */
export async function checkVae(gpu: Gpu, dir: string): Promise<Row[]> {
  const fixture = await openFixture(dir);
  let model: Autoencoder | undefined;
  try {
    const { latent, latentPatchSize } = await readConfig(dir);
    if (latent.kind !== "autoencoder") throw new InputError(`Cannot check ${dir}: no autoencoder`);
    model = await loadAutoencoder(gpu, latent.autoencoder, `${dir}/ae.safetensors`);
    const rows: Row[] = [];
    for (const role of ["out", "grad"]) {
      for (const name of fixture.names(FILE, role)) {
        const got = await compute(fixture, model, name, latentPatchSize);
        rows.push(await fixture.compare(FILE, name, got));
      }
    }
    return rows;
  } finally {
    model?.dispose();
    await fixture.close();
  }
}

async function compute(
  fixture: Fixture,
  model: Autoencoder,
  name: string,
  patch: number,
): Promise<Float32Array> {
  const take = async (input: string) => {
    const { data, shape } = await fixture.tensor(FILE, input);
    return Tensor.from(model.gpu, data as Float32Array, shape).keep();
  };
  const [group, what] = name.split("/");
  if (group === "encode" && ["mean", "logvar"].includes(what)) {
    const moment = what as "mean" | "logvar";
    return await run([await take("encode/image")], ([x]) => model.encodeMoments(x)[moment]);
  }
  if (name === "encode/z") {
    const inputs = [await take("encode/image"), await take("encode/noise")];
    return await run(inputs, ([x, noise]) => model.encode(x, noise));
  }
  if (name === "encode/z_mean") {
    return await run([await take("encode/image")], ([x]) => model.encode(x, null));
  }
  if (group === "decode" && what.startsWith("image_from_")) {
    const from = what.slice("image_from_".length);
    const input = fixture.names(FILE).find((n) => n === `decode/${from}`) ?? `encode/${from}`;
    return await run([await take(input)], ([z]) => model.decode(z));
  }
  if (group === "block") return await runBlock(fixture, model, name, take);
  if (name === "latent_patchify/tokens") {
    const { data, shape } = await fixture.tensor(FILE, "latent_patchify/latent");
    return patchify(data as Float32Array, shape[1], shape[2], patch);
  }
  throw new InputError(`Cannot check ${name} of ${fixture.dir}/${FILE}: nothing computes it`);
}

async function runBlock(
  fixture: Fixture,
  model: Autoencoder,
  name: string,
  take: (input: string) => Promise<Tensor>,
): Promise<Float32Array> {
  const small = name.endsWith("_small");
  const plain = small ? name.slice(0, -"_small".length) : name;
  const block = BLOCKS[plain.slice("block/".length)];
  if (!block) {
    throw new InputError(`Cannot check ${name} of ${fixture.dir}/${FILE}: nothing computes it`);
  }
  const notes = fixture.index.files[FILE]?.tensors ?? {};
  const noted = (notes[name]?.n ?? notes[plain]?.n ?? "").split(" ")[0];
  const p = /^(encoder|decoder)\./.test(noted)
    ? model.parameters.sub(noted)
    : model.parameters.sub(block.place(model.config.chMult.length));
  const channels = p.get(block.entry).shape.slice(0, 2).at(-1);
  const [B, , h, w] = (await fixture.tensor(FILE, name)).shape;
  const want = [B, h, w].join();
  for (const input of fixture.names(FILE, "in")) {
    if (!input.startsWith("block/") || input.endsWith("_small") !== small) continue;
    const x = await take(input);
    const [images, found, rows, columns] = x.shape;
    const fits = found === channels &&
      [images, block.size(rows), block.size(columns)].join() === want;
    if (fits) return await run([x], ([x]) => toChannelsFirst(block.run(toChannelsLast(x), p)));
    x.dispose();
  }
  throw new InputError(`Cannot check ${name} of ${fixture.dir}/${FILE}: no input of its shape`);
}

/** Runs without recording, reads the result and gives back the inputs. */
async function run(inputs: Tensor[], fn: (inputs: Tensor[]) => Tensor): Promise<Float32Array> {
  const y = noGrad(() => tidy(() => fn(inputs)));
  const values = await y.floats();
  for (const t of [y, ...inputs]) t.dispose();
  return values;
}
