// A model folder's weights on the device for training: all of them as f32 to be trained, or as they are stored to be
// adapted.

import type { Gpu } from "../gpu/device.ts";
import { Autoencoder } from "../model/autoencoder.ts";
import type { Checkpoint } from "../model/checkpoint_folder.ts";
import { uploadTensor } from "../model/device_weights.ts";
import { parameterShapes } from "../model/shapes.ts";
import { UniMedVL } from "../model/unimedvl.ts";
import { FROZEN } from "../model/weights.ts";
import { Parameters } from "../nn/parameters.ts";
import { Tensor } from "../tensor.ts";
import { narrowMatrices } from "../train/narrow.ts";

/**
 * Loads every weight to be trained.
 *
 * @param dtype of matrices on the device; bf16 ones that are stored so never take the memory of f32
 * @throws {ResourceError} If they do not fit the memory budget
 */
export async function fullWeights(
  gpu: Gpu,
  checkpoint: Checkpoint,
  dtype: "f32" | "bf16",
): Promise<UniMedVL> {
  const shapes = parameterShapes(checkpoint.config);
  const parameters = new Parameters();
  try {
    for (const name of shapes.keys()) {
      const stored = checkpoint.tensors.get(name)!; // all were looked for when the folder was opened
      if (dtype === "bf16" && stored.dtype === "BF16" && !FROZEN.has(name)) {
        parameters.add(name, await uploadTensor(gpu, checkpoint, stored));
        continue;
      }
      const tensor = Tensor.exact(gpu, stored.shape, "f32");
      parameters.add(name, tensor, !FROZEN.has(name));
      tensor.write(await checkpoint.readFloat32(stored));
    }
    if (dtype === "bf16") narrowMatrices(parameters);
    await gpu.settle();
  } catch (cause) {
    parameters.dispose();
    throw cause;
  }
  return new UniMedVL(gpu, checkpoint.config, parameters);
}

/** Loads every weight as it is stored, packed or not, and trains none of them: what adapters stand on. */
export async function storedWeights(gpu: Gpu, checkpoint: Checkpoint): Promise<UniMedVL> {
  const parameters = new Parameters();
  try {
    for (const name of parameterShapes(checkpoint.config).keys()) {
      const tensor = await uploadTensor(gpu, checkpoint, checkpoint.tensors.get(name)!);
      parameters.add(name, tensor, false);
    }
    await gpu.settle();
  } catch (cause) {
    parameters.dispose();
    throw cause;
  }
  return new UniMedVL(gpu, checkpoint.config, parameters);
}

/** Both halves of a folder's autoencoder, which stays as it is. */
export async function wholeAutoencoder(gpu: Gpu, checkpoint: Checkpoint): Promise<Autoencoder> {
  const { latent } = checkpoint.config;
  if (latent.kind !== "autoencoder" || !checkpoint.autoencoder) {
    throw new TypeError(`Cannot load the autoencoder of ${checkpoint.dir}: there is none`);
  }
  const parameters = new Parameters();
  try {
    for (const [name, stored] of checkpoint.autoencoder) {
      const tensor = Tensor.exact(gpu, stored.shape, "f32");
      parameters.add(name, tensor, false);
      tensor.write(await checkpoint.readFloat32(stored));
    }
    return new Autoencoder(gpu, latent.autoencoder, parameters);
  } catch (cause) {
    parameters.dispose();
    throw cause;
  }
}
