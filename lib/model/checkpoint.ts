// Weights to and from safetensors under the reference's names, strict about names and shapes.

import { openSafetensors, type TensorToWrite, writeSafetensors } from "../data/safetensors.ts";
import { InputError } from "../errors.ts";
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
    const { found, surplus } = matchNames([...file.tensors.keys()]);
    const wrong: string[] = [];
    const shapes = parameterShapes(config);
    for (const [name, shape] of shapes) {
      const source = found.get(name);
      if (!source) wrong.push(`${nameInReference(name)} is missing`);
      else {
        const problem = compareShapes(nameInReference(name), shape, file.info(source).shape);
        if (problem) wrong.push(problem);
      }
    }
    if (wrong.length > 0) throw mismatch(path, wrong);
    const parameters = new Parameters();
    for (const [name, shape] of shapes) {
      const values = await file.readFloat32(found.get(name)!);
      parameters.add(name, Tensor.from(gpu, values, shape), !FROZEN.has(name));
    }
    return { model: new UniMedVL(gpu, config, parameters), surplus };
  } finally {
    file.close();
  }
}

/** Our names of the file's tensors, and the names that are none of ours. */
function matchNames(names: string[]): { found: Map<string, string>; surplus: string[] } {
  const found = new Map<string, string>();
  const surplus: string[] = [];
  for (const name of names) {
    const ours = nameFromReference(name.replace(/^module\./, ""));
    if (ours) found.set(ours, name);
    else surplus.push(name);
  }
  return { found, surplus };
}

function compareShapes(name: string, ours: Shape, theirs: Shape): string | undefined {
  if (ours.join() === theirs.join()) return undefined;
  return `${name} is (${ours.join(", ")}) by the config, (${theirs.join(", ")}) in the file`;
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
 * @throws {InputError} If a tensor other than the token tables has another shape
 */
export async function warmStart(
  model: UniMedVL,
  path: string,
): Promise<{ taken: string[]; left: string[] }> {
  const file = await openSafetensors(path);
  const taken: string[] = [];
  const left: string[] = [];
  try {
    const { found } = matchNames([...file.tensors.keys()]);
    const wrong: string[] = [];
    for (const [name, tensor] of model.parameters.entries()) {
      const source = found.get(name);
      const problem = source && !name.startsWith("text.") &&
        compareShapes(nameInReference(name), tensor.shape, file.info(source).shape);
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
