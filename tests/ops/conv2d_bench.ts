// Convolutions at the autoencoder's shapes, each variant of the kernels, forward and both gradients. One
// sample is REPEATS runs and one wait for the device; the names say how much work a sample is.

import { openDevice } from "../../lib/gpu/device.ts";
import {
  type ConvSizes,
  type ConvVariant,
  gather,
  weightGradient,
} from "../../lib/ops/conv2d_launch.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";

const REPEATS = 4;
const gpu = await openDevice();
const variants: ConvVariant[] = gpu.subgroupSize === 8 ? ["plain", "subgroup", "wide"] : ["plain"];

for (const [side, C, O, kernel] of [[64, 32, 32, 3], [64, 128, 128, 3], [32, 512, 512, 1]]) {
  const pad = kernel >> 1;
  const s: ConvSizes = {
    images: 1,
    inHeight: side,
    inWidth: side,
    outHeight: side,
    outWidth: side,
    C,
    O,
    kernel,
    stride: 1,
    left: pad,
    top: pad,
  };
  const make = (seed: number, ...shape: number[]) =>
    Tensor.from(gpu, normals(shape.reduce((n, d) => n * d, 1), seed), shape);
  const x = make(1, 1, side, side, C);
  const dy = make(2, 1, side, side, O);
  const weight = make(3, O, C, kernel, kernel);
  const bias = make(4, O);
  const work = (REPEATS * 2 * side * side * C * O * kernel * kernel / 1e9).toFixed(2);
  for (const variant of variants) {
    const runs = {
      forward: () => gather("forward", x, weight, bias, s, variant),
      dx: () => gather("backward", dy, weight, weight, s, variant),
      dweight: () => weightGradient(x, dy, s, variant),
    };
    for (const [what, run] of Object.entries(runs)) {
      Deno.bench({
        name: `${what} ${variant}, ${work} GFLOP`,
        group: `${side}x${side} ${C}->${O} k${kernel} on ${gpu.adapter.name}`,
        n: 5,
        warmup: 1,
        async fn() {
          for (let i = 0; i < REPEATS; i++) tidy(() => void run());
          await gpu.settle();
        },
      });
    }
  }
}
