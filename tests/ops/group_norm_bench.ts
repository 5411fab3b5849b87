// Group normalization with swish at the autoencoder's finest level; the names say how many bytes the
// passes over the image move, so that time gives GB/s.

import { backward, noGrad, parameter } from "../../lib/autograd.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { groupNorm } from "../../lib/ops/group_norm.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";

const REPEATS = 4;
const gpu = await openDevice();

for (const [side, C] of [[64, 32], [128, 128]]) {
  const n = side * side * C;
  const x = parameter(Tensor.from(gpu, normals(n, 1), [1, side, side, C]));
  const weight = parameter(Tensor.from(gpu, normals(C, 2), [C]));
  const bias = parameter(Tensor.from(gpu, normals(C, 3), [C]));
  const forward = () => groupNorm(x, weight, bias, { swish: true });
  const group = `groupNorm with swish ${side}x${side}x${C} on ${gpu.adapter.name}`;
  const bench = (what: string, passes: number, run: () => void) =>
    Deno.bench({
      name: `${what}, ${(REPEATS * passes * 4 * n / 1e9).toFixed(3)} GB`,
      group,
      n: 5,
      warmup: 1,
      async fn() {
        for (let i = 0; i < REPEATS; i++) tidy(run);
        await gpu.settle();
      },
    });
  bench("forward", 4, () => noGrad(forward)); // statistics read twice, then read and write
  bench("forward and backward", 11, () => backward(forward(), { seeds: [x] }));
}
