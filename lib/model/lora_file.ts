// Adapters as files: safetensors with `lora.<layer>.a` and `lora.<layer>.b`, and in the metadata rank, α, the patterns
// they were made by and a digest of the weights they were trained over, without which they mean nothing.

import {
  openSafetensors,
  type Safetensors,
  type TensorToWrite,
  writeSafetensors,
} from "../data/safetensors.ts";
import { InputError, UsageError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Parameters } from "../nn/parameters.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { lookupIndex } from "../ops/row_index.ts";
import { readAll, type Tensor, tidy } from "../tensor.ts";
import type { Checkpoint } from "./checkpoint_folder.ts";
import { rowReader } from "./device_weights.ts";
import {
  LORA_PREFIX,
  type LoraInfo,
  loraInfo,
  type LoraLayer,
  loraNames,
  type LoraSpec,
  placeAdapter,
} from "./lora.ts";
import type { UniMedVL } from "./unimedvl.ts";

const FORMAT = "oka-lora-1";

/** An adapter in the memory of the host. */
export interface LoraFile {
  /** Where it was read. */
  path: string;
  info: LoraInfo;
  /** Digest of the weights it was trained over. */
  base: string;
  /** A and B by layer. */
  values: ReadonlyMap<string, { a: Float32Array; b: Float32Array }>;
}

/** Rows of a matrix that the digest looks at: first, middle, last. */
function sampledRows(rows: number): Int32Array {
  return Int32Array.of(0, rows >> 1, rows - 1);
}

const byName = (layers: readonly LoraLayer[]) =>
  [...layers].sort((x, y) => x.name < y.name ? -1 : 1);

/** SHA-256 over names, shapes and the values of a few rows of every adapted matrix: quick, and any training moves it. */
async function digestRows(
  layers: readonly LoraLayer[],
  rows: readonly Float32Array[],
): Promise<string> {
  const parts = layers.flatMap(({ name, outputs, inputs }, i) => {
    const values = rows[i];
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return [new TextEncoder().encode(`${name} ${outputs}x${inputs}\n`), bytes];
  });
  const all = await new Blob(parts as BlobPart[]).arrayBuffer();
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all)).toHex();
}

/** The digest of a model's weights, as they are on the device, for the layers of an adapter. */
export async function modelDigest(
  { parameters }: Pick<UniMedVL, "parameters">,
  layers: readonly LoraLayer[],
): Promise<string> {
  const sampled = tidy(() =>
    byName(layers).map(({ name, outputs }) => {
      const weight = parameters.get(`${name}.weight`);
      return gatherRows(weight, lookupIndex(weight.gpu, sampledRows(outputs), outputs));
    })
  );
  const rows = await readAll(sampled) as Float32Array[];
  for (const tensor of sampled) tensor.dispose();
  return await digestRows(byName(layers), rows);
}

/** The same digest from a folder. */
export async function checkpointDigest(
  checkpoint: Checkpoint,
  layers: readonly LoraLayer[],
): Promise<string> {
  const rows: Float32Array[] = [];
  const ordered = byName(layers);
  for (const { name, outputs } of ordered) {
    const read = rowReader(checkpoint, checkpoint.tensors.get(`${name}.weight`)!);
    rows.push(await read(sampledRows(outputs)));
  }
  return await digestRows(ordered, rows);
}

/**
 * Writes what is attached to a model; the file appears whole or not at all.
 *
 * @param metadata further entries: where it was trained and on what
 * @throws {UsageError} If the model has no adapters
 * @throws {ResourceError} If the file cannot be written
 */
export async function saveLora(
  model: UniMedVL,
  path: string,
  metadata: Record<string, string> = {},
): Promise<void> {
  const { lora, parameters } = model;
  if (!lora) {
    throw new UsageError(`Cannot write ${path}: the model has no adapters`, {
      help: "attachLora makes them",
    });
  }
  const names = lora.layers.flatMap(({ name }) => Object.values(loraNames(name)));
  const tensors = names.map((name) => parameters.get(name));
  const values = await readAll(tensors) as Float32Array[];
  const written = names.map((name, i): [string, TensorToWrite] => [
    name,
    { dtype: "F32", shape: tensors[i].shape, data: values[i] },
  ]);
  await writeSafetensors(path, written, { ...metadata, ...await loraMetadata(model, lora) });
}

/** What the header of a file with a model's adapters says, without which they mean nothing. */
export async function loraMetadata(
  model: Pick<UniMedVL, "parameters">,
  { rank, alpha, targets, layers }: LoraInfo,
): Promise<Record<string, string>> {
  return {
    format: FORMAT,
    rank: String(rank),
    alpha: String(alpha),
    targets: JSON.stringify(targets),
    base: await modelDigest(model, layers),
  };
}

const HELP = "give a file that saveLora wrote";

/**
 * Reads an adapter and checks that it is one whole.
 *
 * @throws {InputError} Naming the file and what is wrong: no adapter, an entry, a tensor
 */
export async function readLora(path: string): Promise<LoraFile> {
  const file = await openSafetensors(path);
  try {
    const fail = (what: string) =>
      new InputError(`Cannot read adapter ${path}: ${what}`, { help: HELP });
    const { spec, base } = readMetadata(file, fail);
    const layers: LoraLayer[] = [];
    const values = new Map<string, { a: Float32Array; b: Float32Array }>();
    for (const name of file.tensors.keys()) {
      const layer = /^lora\.(.+)\.([ab])$/.exec(name)?.[1];
      if (layer === undefined) throw fail(`${name} is no tensor of an adapter`);
      if (values.has(layer)) continue;
      const names = loraNames(layer);
      const [a, b] = [names.a, names.b].map((n) => {
        const info = file.tensors.get(n);
        if (!info) throw fail(`${n} is missing`);
        if (info.shape.length !== 2) throw fail(`${n} is (${info.shape.join(", ")}), no matrix`);
        return info.shape;
      });
      if (a[0] !== spec.rank || b[1] !== spec.rank) {
        throw fail(
          `${layer} has A (${a.join(", ")}) and B (${b.join(", ")}) for rank ${spec.rank}`,
        );
      }
      layers.push({ name: layer, outputs: b[0], inputs: a[1] });
      const read = {
        a: await file.readFloat32(names.a),
        b: await file.readFloat32(names.b),
      };
      for (const [which, numbers] of Object.entries(read)) {
        const at = numbers.findIndex((v) => !Number.isFinite(v));
        if (at >= 0) throw fail(`value ${at} of ${names[which as "a"]} is ${numbers[at]}`);
      }
      values.set(layer, read);
    }
    if (layers.length === 0) throw fail("it has no tensors");
    return { path, info: loraInfo(spec, byName(layers)), base, values };
  } finally {
    file.close();
  }
}

function readMetadata(
  file: Safetensors,
  fail: (what: string) => InputError,
): { spec: LoraSpec; base: string } {
  const get = (key: string) => file.metadata.get(key);
  if (get("format") !== FORMAT) {
    throw fail(`its metadata has format ${JSON.stringify(get("format") ?? "none")}`);
  }
  const [rank, alpha] = [Number(get("rank")), Number(get("alpha"))];
  if (!(Number.isInteger(rank) && rank >= 1)) throw fail(`rank is ${get("rank")}`);
  if (!(Number.isFinite(alpha) && alpha > 0)) throw fail(`alpha is ${get("alpha")}`);
  const base = get("base") ?? "";
  if (!/^[0-9a-f]{64}$/.test(base)) throw fail(`base is ${JSON.stringify(base)}, no SHA-256`);
  let targets: unknown;
  try {
    targets = JSON.parse(get("targets") ?? "");
  } catch {
    targets = undefined; // said below, as of any other wrong value
  }
  const texts = Array.isArray(targets) && targets.every((t) => typeof t === "string");
  if (!texts) throw fail(`targets is ${get("targets")}, no list of patterns`);
  return { spec: { rank, alpha, targets: targets as string[] }, base };
}

/**
 * Refuses an adapter on weights that it was not trained over.
 *
 * @param shapes of the base, by our names
 * @param digest of the base for the adapter's layers, asked for once the shapes fit
 * @param where the base is, for errors
 * @throws {InputError} Naming the layer, or both digests
 */
export async function checkBase(
  lora: LoraFile,
  shapes: ReadonlyMap<string, { shape: readonly number[] }>,
  digest: () => Promise<string>,
  where: string,
): Promise<void> {
  const fail = (what: string) =>
    new InputError(`Cannot use adapter ${lora.path} on ${where}: ${what}`, {
      help: "use the model that the adapter was trained over",
    });
  for (const { name, outputs, inputs } of lora.info.layers) {
    const shape = shapes.get(`${name}.weight`)?.shape;
    if (!shape) throw fail(`it has no ${name}.weight`);
    if (shape.join() === `${outputs},${inputs}`) continue;
    throw fail(
      `${name}.weight is (${shape.join(", ")}), the adapter's is (${outputs}, ${inputs})`,
    );
  }
  const found = await digest();
  if (found === lora.base) return;
  throw fail(
    `its weights have digest ${found.slice(0, 12)}…, the adapter's ${lora.base.slice(0, 12)}…`,
  );
}

/** Attaches the adapters of those layers whose weights are among some parameters and have none yet. */
export function placeLora(
  gpu: Gpu,
  parameters: Parameters,
  { info, values }: LoraFile,
  trainable = false,
): void {
  for (const layer of info.layers) {
    const weight: Tensor | undefined = parameters.find(`${layer.name}.weight`);
    if (!weight || parameters.find(`${LORA_PREFIX}${layer.name}.a`)) continue;
    const { rank, alpha } = info;
    placeAdapter(
      gpu,
      parameters,
      layer,
      weight,
      { ...values.get(layer.name)!, rank, alpha },
      trainable,
    );
  }
}

/**
 * Attaches an adapter from a file to a whole model, trainable again, and freezes everything else.
 *
 * @throws {InputError} If the file is no adapter, or of other weights
 * @throws {UsageError} If the model has adapters already
 */
export async function loadLora(model: UniMedVL, path: string): Promise<LoraInfo> {
  if (model.lora) {
    throw new UsageError(`Cannot attach adapter ${path}: the model has adapters already`, {
      help: "detachLora takes them off",
    });
  }
  const lora = await readLora(path);
  const shapes = new Map(model.parameters.entries());
  await checkBase(lora, shapes, () => modelDigest(model, lora.info.layers), "this model");
  for (const [, tensor] of model.parameters.entries()) tensor.requiresGrad = false;
  placeLora(model.gpu, model.parameters, lora, true);
  return model.lora = lora.info;
}
