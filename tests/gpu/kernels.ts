// Kernels and devices for the tests of lib/gpu: small enough to be read in place.

import { type Gpu, type GpuOptions, openDevice } from "../../lib/gpu/device.ts";
import { Kernel } from "../../lib/gpu/kernel.ts";
import { Tensor } from "../../lib/tensor.ts";

/** WGSL of `y[i] = expression` over n values, which may use x[i] and the params a and b. */
export function pointwiseCode(expression: string): string {
  return [
    "override BLOCK: u32 = 64;",
    "const ADDED = 0.0;",
    "alias scalar = f32;",
    "struct Params { n: u32, a: f32, b: i32 }",
    "@group(0) @binding(0) var<storage, read> x: array<scalar>;",
    "@group(0) @binding(1) var<storage, read_write> y: array<scalar>;",
    "@group(0) @binding(2) var<uniform> params: Params;",
    "@compute @workgroup_size(BLOCK)",
    "fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,",
    "  @builtin(local_invocation_index) lane: u32) {",
    "  let i = (group.y * groups.x + group.x) * BLOCK + lane;",
    `  if (i < params.n) { y[i] = ${expression}; }`,
    "}",
  ].join("\n");
}

/** `y = a · x + ADDED + b`. */
export const line = new Kernel("line", {
  main: pointwiseCode("scalar(params.a) * x[i] + scalar(ADDED) + scalar(params.b)"),
  knobs: ["BLOCK", "ADDED", "scalar"],
});

/** Launches {@link line}. */
export function runLine(x: Tensor, y: Tensor, a: number, b = 0): void {
  line.run(x.gpu, {
    buffers: { x: x.buffer, y: y.buffer },
    params: { n: x.size, a, b },
    grid: [Math.ceil(x.size / 64)],
  });
}

/** Runs a test on a device of its own, and closes it. */
export async function withDevice(
  test: (gpu: Gpu) => Promise<void> | void,
  options: GpuOptions = { budgetBytes: 2 ** 24 },
): Promise<void> {
  const gpu = await openDevice(options);
  try {
    await test(gpu);
  } finally {
    gpu.close();
  }
}

/** Values 0, 1, 2, … on the device. */
export function counting(gpu: Gpu, n: number): Tensor {
  return Tensor.from(gpu, Float32Array.from({ length: n }, (_, i) => i), [n]);
}
