// One half of a checkpoint's autoencoder on the device: asking needs neither, drawing the decoder, conditions the
// encoder.

import type { Gpu } from "../gpu/device.ts";
import { Parameters } from "../nn/parameters.ts";
import { Tensor } from "../tensor.ts";
import { Autoencoder } from "./autoencoder.ts";
import type { Checkpoint } from "./checkpoint_folder.ts";

/** The halves of an autoencoder. */
export type AutoencoderHalf = "encoder" | "decoder";

/**
 * Uploads one half, as f32.
 *
 * @param checkpoint one that has an autoencoder
 * @throws {ResourceError} If it does not fit the device's memory budget
 */
export async function uploadAutoencoder(
  gpu: Gpu,
  checkpoint: Checkpoint,
  half: AutoencoderHalf,
  work: { signal?: AbortSignal; onTensor?: (bytes: number) => void } = {},
): Promise<Autoencoder> {
  const { latent } = checkpoint.config;
  if (latent.kind !== "autoencoder" || !checkpoint.autoencoder) {
    throw new TypeError(`Cannot load the ${half} of ${checkpoint.dir}: there is none`);
  }
  const parameters = new Parameters();
  try {
    for (const [name, stored] of checkpoint.autoencoder) {
      if (!name.startsWith(`${half}.`)) continue;
      work.signal?.throwIfAborted();
      const values = await checkpoint.readFloat32(stored);
      const tensor = Tensor.exact(gpu, stored.shape, "f32");
      parameters.add(name, tensor, false);
      tensor.write(values);
      work.onTensor?.(stored.bytes);
    }
    return new Autoencoder(gpu, latent.autoencoder, parameters);
  } catch (error) {
    parameters.dispose();
    throw error;
  }
}
