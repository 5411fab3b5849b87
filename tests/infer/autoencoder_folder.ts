// A model folder whose latents come from an autoencoder of two levels, as the published one's do.

import { writeSafetensors } from "../../lib/data/safetensors.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { initAutoencoder } from "../../lib/model/autoencoder_weights.ts";
import type { UniMedVLConfig } from "../../lib/model/config.ts";
import { readAll } from "../../lib/tensor.ts";
import { SMALL } from "../model/small.ts";
import { modelFolder } from "./model_folder.ts";

/** 4 pixels a latent token: two per latent, two latents. */
export const WITH_AUTOENCODER: UniMedVLConfig = {
  ...SMALL,
  latent: {
    kind: "autoencoder",
    autoencoder: {
      resolution: 32,
      inChannels: 3,
      downsample: 2,
      ch: 32,
      outCh: 3,
      chMult: [1, 1],
      numResBlocks: 1,
      zChannels: 4,
      scaleFactor: 0.3611,
      shiftFactor: 0.1159,
    },
  },
  latentPatchSize: 2,
};

/** Writes the folder, for the caller to remove. */
export async function autoencoderFolder(gpu: Gpu): Promise<string> {
  const dir = await modelFolder(gpu, 1, WITH_AUTOENCODER);
  const { latent } = WITH_AUTOENCODER;
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
