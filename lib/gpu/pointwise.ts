// Launches pointwise kernels over tensors of any size: the grid is folded over two axes, and tensors
// larger than the binding limit are covered by several launches.

import type { Tensor } from "../tensor.ts";
import type { Gpu } from "./device.ts";
import { type Binding, foldGrid, type Kernel, type Launch } from "./kernel.ts";

/** Invocations per workgroup and values per invocation that pointwise kernels are written for. */
const BLOCK = 64;
const WIDTH = 4;

/**
 * Runs a kernel whose every buffer has one value per element, stored as vec4f, with the single size
 * param `n`. Scalars in `params` are passed through.
 *
 * @param tensors buffers by their WGSL names, all of `n` 4-byte elements
 * @param options `scalars` are one-element buffers, bound whole in every launch
 */
export function runPointwise<Knob extends string>(
  kernel: Kernel<Knob>,
  gpu: Gpu,
  tensors: Record<string, Tensor>,
  n: number,
  options: Omit<Launch<Knob>, "buffers" | "grid"> & { scalars?: Record<string, Tensor> } = {},
): void {
  const most = Math.floor(gpu.maxBindingBytes / 256) * 64; // elements, keeping offsets aligned
  for (let start = 0; start < n; start += most) {
    const count = Math.min(most, n - start);
    const buffers: Record<string, Binding> = {};
    for (const [name, scalar] of Object.entries(options.scalars ?? {})) {
      buffers[name] = scalar.buffer;
    }
    for (const [name, tensor] of Object.entries(tensors)) {
      buffers[name] = n <= most ? tensor.buffer : {
        buffer: tensor.buffer,
        offset: 4 * start,
        sizeBytes: Math.ceil(count / WIDTH) * 4 * WIDTH,
      };
    }
    const params = { ...options.params, n: count };
    kernel.run(gpu, {
      ...options,
      buffers,
      params,
      grid: foldGrid(Math.ceil(count / (BLOCK * WIDTH))),
    });
  }
}
