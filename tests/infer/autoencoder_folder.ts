// A model folder whose latents come from an autoencoder of two levels, as the published one's do.

import { writeSafetensors } from "../../lib/data/safetensors.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { initAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import { readAll } from "../../lib/tensor.ts";
import { RELEASED } from "../model/made_folders.ts";
import { modelFolder } from "./model_folder.ts";

/** Writes the folder, for the caller to remove. */
export async function autoencoderFolder(gpu: Gpu): Promise<string> {
  const dir = await modelFolder(gpu, 1, RELEASED);
  const { latent } = RELEASED;
  if (latent.kind !== "autoencoder") throw new Error("internal: the config has an autoencoder");
  const vae = initAutoencoder(gpu, latent.autoencoder, 3);
  const entries = [...vae.parameters.entries()];
  const values = await readAll(entries.map(([, tensor]) => tensor));
  await writeSafetensors(
    `${dir}/ae.safetensors`,
    entries.map(([name, { shape }], i) => [
      name,
      { dtype: "F32", shape, data: values[i] as Float32Array },
    ]),
  );
  vae.dispose();
  return dir;
}
