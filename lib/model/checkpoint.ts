// Weights to and from safetensors under the reference's names, strict about names and shapes.

import {
  openSafetensors,
  type TensorInfo,
  type TensorToWrite,
  writeSafetensors,
} from "../data/safetensors.ts";
import { InputError, UsageError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { Parameters } from "../nn/parameters.ts";
import { readAll, type Shape, Tensor } from "../tensor.ts";
import { checkConfig, type UniMedVLConfig } from "./config.ts";
import { parameterShapes } from "./shapes.ts";
import { UniMedVL } from "./unimedvl.ts";
import { FROZEN, nameFromReference, nameInReference } from "./weights.ts";

/**
 * Loads a model from one safetensors file.
 *
 * @param path weights under the reference's names; a `module.` prefix is dropped, `vae_model.*` and names
 *   the model does not have are passed over and listed in `surplus`
 * @throws {InputError} Listing every tensor that is missing or of another shape
 */
export async function loadModel(
  gpu: Gpu,
  config: UniMedVLConfig,
  path: string,
): Promise<{ model: UniMedVL; surplus: string[] }> {
  checkConfig(config);
  const file = await openSafetensors(path);
  try {
    const shapes = parameterShapes(config);
    const { found, surplus } = matchNames([...file.tensors.keys()], shapes);
    const wrong = deeperThan(config, surplus);
    for (const [name, shape] of shapes) {
      const source = found.get(name);
      if (!source) wrong.push(`${nameInReference(name)} is missing`);
      else {
        const problem = compareTensors(nameInReference(name), shape, file.info(source));
        if (problem) wrong.push(problem);
      }
    }
    if (wrong.length > 0) throw mismatch(path, wrong);
    const parameters = new Parameters();
    try {
      for (const [name, shape] of shapes) {
        const values = await file.readFloat32(found.get(name)!);
        parameters.add(name, Tensor.from(gpu, values, shape), !FROZEN.has(name));
      }
    } catch (error) {
      parameters.dispose(); // out of device memory, or a file that cannot be read to its end
      throw error;
    }
    return { model: new UniMedVL(gpu, config, parameters), surplus };
  } finally {
    file.close();
  }
}

const withoutPrefix = (name: string) => name.replace(/^module\./, "");

/** Our names of the file's tensors, and the names of those that are none of the model's. */
function matchNames(
  names: string[],
  model: { has(name: string): boolean },
): { found: Map<string, string>; surplus: string[] } {
  const found = new Map<string, string>();
  const surplus: string[] = [];
  for (const name of names) {
    const ours = nameFromReference(withoutPrefix(name));
    if (ours && model.has(ours)) found.set(ours, name);
    else surplus.push(name);
  }
  return { found, surplus };
}

/** Layers that the file has beyond the config's: leaving them out would be another model. */
function deeperThan({ language, vision }: UniMedVLConfig, surplus: string[]): string[] {
  const depth = { decoder: 0, vit: 0 };
  for (const name of surplus) {
    const layer = /^(und|gen|vit)\.layers\.(\d+)\./.exec(
      nameFromReference(withoutPrefix(name)) ?? "",
    );
    if (!layer) continue;
    const stack = layer[1] === "vit" ? "vit" : "decoder";
    depth[stack] = Math.max(depth[stack], Number(layer[2]) + 1);
  }
  const said = (what: string, built: number, held: number) =>
    held > built ? [`${what} has ${built} layers by the config, ${held} in the file`] : [];
  return [
    ...said("the decoder", language.numHiddenLayers, depth.decoder),
    ...said("the image encoder", vision.numHiddenLayers, depth.vit),
  ];
}

function compareTensors(name: string, ours: Shape, theirs: TensorInfo): string | undefined {
  const { dtype, shape } = theirs;
  if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") {
    return `${name} is ${dtype}, no float`;
  }
  if (ours.join() === shape.join()) return undefined;
  return `${name} is (${ours.join(", ")}) by the config, (${shape.join(", ")}) in the file`;
}

const LISTED = 8;

function mismatch(path: string, wrong: string[]): InputError {
  const more = wrong.length > LISTED ? `; and ${wrong.length - LISTED} more` : "";
  return new InputError(
    `Cannot load weights from ${path}: ${wrong.slice(0, LISTED).join("; ")}${more}`,
    { help: "use the config that belongs to this file" },
  );
}

/**
 * Writes all weights under the reference's names; the file appears whole or not at all.
 *
 * @param options `dtype` of storage, default F32; `frozen` false leaves the position tables out;
 *   `tensors` replaces the weights by others of the same names (an average of them, say)
 * @throws {UsageError} If the model has adapters, which such a file has no place for
 */
export async function saveModel(
  model: UniMedVL,
  path: string,
  options: {
    dtype?: "F32" | "F16" | "BF16";
    frozen?: boolean;
    metadata?: Record<string, string>;
    tensors?: ReadonlyMap<string, Tensor>;
  } = {},
): Promise<void> {
  if (model.lora) {
    throw new UsageError(`Cannot write ${path}: the model has adapters besides its weights`, {
      help: "saveLora writes the adapters, mergeLora a folder of both",
    });
  }
  const entries = [...model.parameters.entries()]
    .filter(([name]) => options.frozen !== false || !FROZEN.has(name));
  const tensors = entries.map(([name, tensor]) => options.tensors?.get(name) ?? tensor);
  const values = await readAll(tensors);
  const written = entries.map(([name, { shape }], i): [string, TensorToWrite] => [
    nameInReference(name),
    { dtype: options.dtype ?? "F32", shape, data: values[i] as Float32Array },
  ]);
  await writeSafetensors(path, written, options.metadata ?? {});
}

/**
 * Copies what a file has into a model that may differ in its token table: tensors of equal name and shape.
 *
 * @returns names that were taken and names that were left as they were
 * @throws {InputError} If a tensor other than the token tables has another shape, or the file has more layers
 */
export async function warmStart(
  model: UniMedVL,
  path: string,
): Promise<{ taken: string[]; left: string[] }> {
  const file = await openSafetensors(path);
  const taken: string[] = [];
  const left: string[] = [];
  try {
    const names = new Set([...model.parameters.entries()].map(([name]) => name));
    const { found, surplus } = matchNames([...file.tensors.keys()], names);
    const wrong = deeperThan(model.config, surplus);
    for (const [name, tensor] of model.parameters.entries()) {
      const source = found.get(name);
      const problem = source && !name.startsWith("text.") &&
        compareTensors(nameInReference(name), tensor.shape, file.info(source));
      if (problem) wrong.push(problem);
    }
    if (wrong.length > 0) throw mismatch(path, wrong);
    for (const [name, tensor] of model.parameters.entries()) {
      const source = found.get(name);
      if (source && file.info(source).shape.join() === tensor.shape.join()) {
        tensor.write(await file.readFloat32(source));
        taken.push(name);
      } else left.push(name);
    }
  } finally {
    file.close();
  }
  return { taken, left };
}
