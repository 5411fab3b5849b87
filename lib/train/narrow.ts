// Matrices stored as bf16 for training: the model computes with the halves, an optimizer keeps f32 masters of those it
// trains (see adamw.ts). Frozen matrices take 2 bytes a value instead of 4; trained ones 2 more than in f32.

import { FROZEN } from "../model/weights.ts";
import type { Parameters } from "../nn/parameters.ts";
import { adapterOf } from "../ops/adapter.ts";
import { roundBf16 } from "../ops/round_bf16.ts";
import { Tensor } from "../tensor.ts";

/**
 * Puts bf16 copies, rounded to the nearest, in the place of all f32 matrices; fixed position tables and vectors (biases,
 * norms) stay f32. To be called before an optimizer is made or adapters are attached. What was trainable still is.
 *
 * @returns names of the matrices
 * @throws {TypeError} If a matrix carries an adapter, which is tied to the f32 tensor
 */
export function narrowMatrices(parameters: Parameters): string[] {
  const names: string[] = [];
  for (const [name, tensor] of [...parameters.entries()]) {
    if (tensor.dtype !== "f32" || tensor.shape.length !== 2 || FROZEN.has(name)) continue;
    if (adapterOf(tensor)) {
      throw new TypeError(
        `Cannot store ${name} as bf16: it carries an adapter; store it so before adapters are attached`,
      );
    }
    const narrow = Tensor.exact(tensor.gpu, tensor.shape, "bf16");
    roundBf16(tensor, narrow);
    parameters.replace(name, narrow);
    names.push(name);
  }
  return names;
}
