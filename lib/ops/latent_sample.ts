// Draws latents from the moments an image encoder gives, given the noise (Kingma & Welling 2014, eq. 4).

import backwardCode from "../../kernels/latent_sample_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/latent_sample.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";
import { affine } from "./affine.ts";

const forward = new Kernel("latent_sample", { main: forwardCode });
const backward = new Kernel("latent_sample_backward", { main: backwardCode });

/** Where latents lie: `z = (sample - shift) · scale`. */
export interface LatentScale {
  scale: number;
  shift: number;
}

/**
 * `z = (mean + exp(½ logvar) · noise - shift) · scale`.
 *
 * @param mean (…) any shape
 * @param logvar (…) the same shape, natural logarithm of the variance
 * @param noise (…) the same shape, standard normal; no gradient
 * @returns (…) the same shape
 * @throws {TypeError} If the shapes differ
 */
export function latentSample(
  mean: Tensor,
  logvar: Tensor,
  noise: Tensor,
  { scale, shift }: LatentScale,
): Tensor {
  for (const [name, t] of [["logvar", logvar], ["noise", noise]] as const) {
    if (t.shape.join() === mean.shape.join()) continue;
    const [m, other] = [mean.shape.join(", "), t.shape.join(", ")];
    throw new TypeError(`Cannot sample latents: mean is (${m}), ${name} (${other})`);
  }
  const gpu = mean.gpu;
  const z = Tensor.empty(gpu, mean.shape);
  runPointwise(forward, gpu, { mean, logvar, noise, z }, z.size, { params: { scale, shift } });
  return record(z, [mean, logvar], (dz, needs) => {
    const dmean = needs[0] ? affine(dz, scale) : null;
    if (!needs[1]) return [dmean, null];
    const dlogvar = Tensor.empty(gpu, logvar.shape);
    runPointwise(backward, gpu, { dz, logvar, noise, dlogvar }, dz.size, { params: { scale } });
    return [dmean, dlogvar];
  });
}
