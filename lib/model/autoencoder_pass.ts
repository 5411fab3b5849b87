// Half an autoencoder without gradients, in steps. Images of a batch share nothing but their size, so that as
// many go through together as are small.

import type { Parameters } from "../nn/parameters.ts";
import type { Held, Steps } from "../ops/steps.ts";
import { Tensor, tidy } from "../tensor.ts";
import { type Stage, stageSteps } from "./autoencoder_stages.ts";

/** Idle memory from which it is freed when images change their size: buffers of the old size are of no use. */
const IDLE_BYTES = 2 ** 27;

/** A half and what stands before and behind it. */
export interface Pass {
  stages: readonly Stage[];
  /** Weights of the half. */
  weights: Parameters;
  /** Images that go through together. */
  together: number;
  /** (n, C, h, w) → (n, h, w, C). */
  begin: (images: Tensor) => Tensor;
  /** (n, h', w', C') → results, the first axis of each being n. */
  finish: (images: Tensor) => Tensor[];
}

/**
 * Runs a half.
 *
 * @param x (B, C, h, w); stays the caller's
 * @returns the results of `finish` for all B; in the caller's charge
 */
export function* passSteps(held: Held, x: Tensor, pass: Pass): Steps<Tensor[]> {
  const { gpu } = x;
  const images = x.dim(0);
  let results: Tensor[] = [];
  for (let image = 0; image < images; image += pass.together) {
    const count = Math.min(pass.together, images - image);
    let y = held.hold(tidy(() => pass.begin(share(x, image, count))));
    for (const stage of pass.stages) {
      y = yield* stageSteps(stage, held, y, pass.weights);
      const resized = stage.kind === "upsample" || stage.kind === "downsample";
      if (resized && gpu.buffers.idleBytes > IDLE_BYTES) gpu.buffers.trim();
    }
    const made = tidy(() => pass.finish(y));
    for (const tensor of made) held.hold(tensor);
    held.drop(y);
    if (count === images) results = made;
    else {
      if (image === 0) results = made.map((t) => held.hold(sized(t, images)));
      for (const [i, part] of made.entries()) {
        const at = 4 * image * part.size / count;
        gpu.copy(part.buffer, 0, results[i].buffer, at, 4 * part.size);
        held.drop(part);
      }
    }
  }
  return results.map((tensor) => held.release(tensor));
}

/** Images `first … first + count`: a view of all, or a copy. */
function share(x: Tensor, first: number, count: number): Tensor {
  if (count === x.dim(0)) return x.alias();
  const y = sized(x, count);
  x.gpu.copy(x.buffer, 4 * first * x.size / x.dim(0), y.buffer, 0, 4 * y.size);
  return y;
}

function sized(x: Tensor, images: number): Tensor {
  return Tensor.empty(x.gpu, [images, ...x.shape.slice(1)]);
}
